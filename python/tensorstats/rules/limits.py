"""Every limit of the default rules, with its source; knows no rule.

The sources are rule catalogues that published their numbers. A number of ours says so and says what it was checked on:
the healthy small trainings of tests/test_rules_healthy.py (MLPs and a CNN, Adam, SGD with momentum, dropout, batch
norm, tanh, sigmoid). "Recorded steps" are the steps the schedule selects, so patience scales with ``every``.
"""

from __future__ import annotations

# --- units ------------------------------------------------------------------------------------------------------------

# Share of the units of one layer that must be dead. DeepDiagnosis and AUTOTRAINER take 70 %, without an alarm on 34
# healthy programs. SageMaker Debugger DeadRelu.threshold_layer = 50 (%) is what chance gives a layer whose input hardly
# varies: of units of random sign one half is silent, as happened in 4 of 90 healthy trainings of ours.
DEAD_LAYER_FRACTION = 0.7

# A unit counts as dead when it was never active in this many recorded steps in a row. Ours: one batch says nothing (a
# class may be missing from it), and a unit that woke up within ten batches is alive.
DEAD_WINDOW_STEPS = 10

# ... and when the window holds at least this many values of the unit, so that small batches lengthen the window. Ours:
# a unit that fires on 1 % of the samples (SageMaker Debugger DeadRelu.threshold_inactivity) stays silent in 500 with
# probability 0.99 ** 500 = 0.7 %. A layer that is silent as a whole need not wait for them.
DEAD_WINDOW_VALUES = 500

# Share of the values of one layer that must sit in the flat part. DeepDiagnosis: more than 50 % beyond |z| = 5, no
# alarm on 34 healthy programs.
SATURATED_LAYER_FRACTION = 0.5

# Beyond |z| = 5 the slope of tanh is below 2e-4 and that of the sigmoid below 7e-3 (DeepDiagnosis' bound). Outputs are
# judged, so the bounds are tanh(5) and sigmoid(+-5).
TANH_SATURATION = 0.9999092042625951
SIGMOID_SATURATION_LOW = 0.0066928509242848554
SIGMOID_SATURATION_HIGH = 0.9933071490757153
SATURATED_PATIENCE = 5

# Share of exact zeros in an output. SageMaker Debugger AllZero.threshold = 100 (%).
ALL_ZERO_FRACTION = 1.0
ALL_ZERO_PATIENCE = 5

# --- gradients --------------------------------------------------------------------------------------------------------

# First layer against last layer. AUTOTRAINER's beta1, no alarm on 34 healthy programs. Its beta2, an absolute 1e-4 for
# the first layer, scales with the loss; the trend through the depth takes its place.
VANISHING_RATIO = 1e-3
# Mean |gradient| below which a gradient counts as rounding noise for the rule on unchanged parameters. SageMaker
# Debugger VanishingGradient.threshold.
NOISE_MEAN_ABS = 1e-7
VANISHING_PATIENCE = 5

# Norm of one layer's gradient. torchmortem's limit of 1000 for the norm, no alarm on 34 healthy programs. It scales
# with the loss and the targets, so it counts only where the step does too (not under Adam) and replaces the weight
# (UPDATE_RATIO_REPLACED): a small rate makes up for large units. Ours, checked on raw targets and summed losses under
# SGD with and without momentum, at rates from 1e-6 to 0.1: silent at all that learn steadily.
EXPLODING_NORM = 1000.0
# The root mean square of the last hidden layer's output over the first's, rising on the way. A network that keeps its
# scale stays within 10. Ours.
EXPLODING_OUTPUT_GROWTH = 50.0
# First layer against last layer. AUTOTRAINER's beta3 = 70, counted only where the gradients grow through the whole
# depth and a step moves the first layer by more than is usual (ours).
EXPLODING_RATIO = 70.0
EXPLODING_RATIO_PATIENCE = 3
# How strictly gradients must follow the depth for a ratio of first to last to mean anything: rank correlation, and the
# fewest weights it is asked of. Gates, layer scales and zero-initialised branches make single layers small, not all of
# them in order. Ours.
DEPTH_TREND = 0.8
DEPTH_TREND_WEIGHTS = 4
# Against the layer's own past: 100 times the norm of its first recorded step and of the median of its last ten, and
# above the first norm and the last ten of every layer (ours, after TheDeepChecker's rule on doubling gradients, which
# takes longer to see the same). A layer behind heads that are born small grows a hundredfold until it has caught up.
# The median, because gradients that are tiny at the start may rightly rise tenfold: an LSTM that leaves its plateau
# after 40 steps did so in healthy trainings of ours, and one lively step of it was then 168 times the first.
EXPLODING_GROWTH = 100.0
EXPLODING_USUAL_STEPS = 10
# Up to this growth the loss has a say: where it was logged, it must be half above the median of its last ten. Gradients
# of a speech encoder that left its plateau after 110 steps grew 103 to 290 times, while its loss fell (healthy runs of
# Wav2Vec2, Hubert and BERT without warm-up). And for two steps in a row: a single odd sample among eight, in a BERT
# that had learned all others, made one gradient 170 times as large, and the next was as before. Ours.
EXPLODING_GROWTH_ALONE = 1000.0
EXPLODING_GROWTH_PATIENCE = 2
LOSS_ROSE = 0.5
LOSS_ROSE_LOSSES = 10
# ... and of at least so many recorded steps: where the loss is flat to begin with, the first gradients are rounding
# noise, and any real one is hundreds of times as large. Ours.
EXPLODING_FEWEST_STEPS = 3
# One such step is enough: an explosion throws the weights to where units are dead and gradients are 0, so that there is
# no second one to wait for.
EXPLODING_PATIENCE = 1

# Backward passes add into gradients that were not reset since the last optimizer step. Nothing legitimate does that
# three times in a row (accumulation resets once per optimizer step). Ours.
GRADIENTS_KEPT_PATIENCE = 3

# After a NaN or an explosion, what begins within this many recorded steps counts as following from it, and a NaN at
# another place needs as many clean steps between to be a new one. Ours: all of it came within six steps in the broken
# runs of tests/test_rules_*.py.
ECHO_STEPS = 10

# A finding that held in none of this many recorded steps (or of the rule's patience, if that is more) is over. Ours, as
# many as most rules wait for before they tell: one good step is no recovery.
OVER_STEPS = 5

# Units die of an explosion more slowly: it leaves part of a layer silent, and the steps after it drag the others along.
# Ours: in 208 small trainings with one batch 1000 times too large, a layer passed the limit up to 59 recorded steps
# after it. Not without end, so that a layer that dies much later is told.
DEATH_ECHO_STEPS = 100

# --- parameters -------------------------------------------------------------------------------------------------------

# SageMaker Debugger UnchangedTensor asks for 3 saved steps with allclose. We see the exact update, so exactly 0; and 5
# steps because learning rates are warmed up from exactly 0.
UNCHANGED_PATIENCE = 5
NO_GRADIENT_PATIENCE = 5
FROZEN_PATIENCE = 5

# Norm of one update over the norm of the weight. TheDeepChecker: log10 of the ratio above -1 is too much; a ratio near
# 1e-3 is healthy. Adam with a large rate starts above it for a few steps, hence the patience (ours).
UPDATE_RATIO_HIGH = 0.1
UPDATE_RATIO_HIGH_PATIENCE = 20
# Measured against the weight after the step, a ratio near one half means that the weight is replaced rather than
# adjusted: no need to wait that long. Ours: healthy runs stayed below 0.26. SageMaker Debugger's limit is 10 times
# the weight before the step.
UPDATE_RATIO_REPLACED = 0.4
UPDATE_RATIO_REPLACED_PATIENCE = 3
# A matrix that starts at zero (LoRA's second, the last of a residual branch) needs time to outgrow its own steps. When
# they grow as n ** k the ratio of step n is about (k + 1) / (n + k): k = 1 under momentum, 2 while the rate is warmed
# up too, 3 while the gradient grows with the matrix. With k = 3 it is 0.4 at step 7 and 0.1 at step 37. Ours.
UPDATE_RATIO_FROM_ZERO_HIGH_PATIENCE = 40
UPDATE_RATIO_FROM_ZERO_REPLACED_PATIENCE = 8
# The very first step: the weight grows to 10 times what it was (SageMaker Debugger WeightUpdateRatio.large_threshold)
# and nearly all of it is update. A rate that is far too large makes the weights so large that later ratios look
# ordinary.
UPDATE_RATIO_FIRST = 0.9
UPDATE_RATIO_FIRST_GROWTH = 10.0
# A weight smaller than this share of the size that torch's default initialisation gives its shape was born small on
# purpose (class tokens of 1e-6, layer scales, heads scaled by 0.001). Ours, checked on such parameters.
BORN_SMALL = 0.1
# torchmortem's lower end of the band. Ratios of a converged or annealed run fall below it too, so it only counts for a
# weight whose ratio never reached it since watching began, and is not still rising (warm-up).
UPDATE_RATIO_LOW = 1e-5
UPDATE_RATIO_LOW_PATIENCE = 10
UPDATE_RATIO_RISING = 2.0

# --- learning ---------------------------------------------------------------------------------------------------------

# "Does not learn": the smoothed loss ends above 0.9 of its start (21 of 50 buggy programs, none of 34 healthy ones
# after 300 steps). We compare the first and the last tenth of the logged losses once there are enough of them.
NOT_LEARNING_FRACTION = 0.9
NOT_LEARNING_LOSSES = 50

# A loss that has stayed the same to six digits from the first on, in more logged losses than this: batches differ, so
# that any model which is trained moves it more. Ours.
FLAT_LOSSES = 50.0
FLAT_LOSS_PRECISION = 1e-6

# --- ranks ------------------------------------------------------------------------------------------------------------

# Ours, without an outside source: batches of one distribution through equal weights differ by far less, and a rank that
# reads unnormalised images (0..255 instead of 0..1) by far more. In a few steps in a row, so that no odd batch counts.
ODD_RANK_RATIO = 10.0
ODD_RANK_PATIENCE = 3

# --- skipped steps ----------------------------------------------------------------------------------------------------

# Share of the last 100 steps. Ours: a scaler that has found its scale skips one step in 2,000 (the growth interval of
# torch.amp.GradScaler), loops that leave out broken batches a few in a hundred.
SKIPPED_SHARE = 0.1
# Longer than a run that has begun to skip every step takes to become a failure. Ours.
SKIPPED_PATIENCE = 50
# More than half of them, and at least so many: a fault by itself. Ours: a scaler that nobody heard of takes 32 steps
# from a scale of 2 ** 32 down to 1.
SKIPPED_MOST = 0.5
SKIPPED_MOST_STEPS = 40
# A run in which all steps were skipped, and there were so many. Ours.
SKIPPED_ALL_STEPS = 5

# --- modules ----------------------------------------------------------------------------------------------------------

# Running statistics move with the first batch. Ours; five steps, as for weights that never change.
STILL_STATISTICS_PATIENCE = 5
# Ours. Long enough that a loop which forgot train() in its first step alone is not told.
TRAINED_IN_EVAL_PATIENCE = 5

# --- weights as a whole -----------------------------------------------------------------------------------------------

# TheDeepChecker looks for constant weights before training; zeros and scales of 1 are healthy there, and their rows
# differ after one step by as much as it moves them. Ours: five steps in which rows differ by less than a hundredth of
# what the last step changed, which is rounding.
SYMMETRIC_SPREAD = 0.01
SYMMETRIC_PATIENCE = 5
# Share of its first norm that the median weight matrix has left. Ours: weights before a normalisation shrink under
# decay too, but only until their gradients, which grow as they shrink, hold them.
COLLAPSED_NORM = 0.05
COLLAPSED_PATIENCE = 3
# One matrix alone may be meant to fade (a gate, a bottleneck). Ours.
COLLAPSED_FEWEST_WEIGHTS = 2

# --- rates ------------------------------------------------------------------------------------------------------------

# A rate below this share of its highest moves weights by less than their rounding over thousands of steps. Cosine to 0
# is there for the last 0.6 % of its steps, linear decay for the last 0.01 %. Ours.
DECAYED_RATE = 1e-4
# Longer than the run was alive before, and for so many recorded steps. Ours.
DECAYED_SHARE = 0.5
DECAYED_FEWEST_STEPS = 50

# --- rules to ask for -------------------------------------------------------------------------------------------------

# SageMaker Debugger TensorVariance, the bounds of its documentation's example.
VARIANCE_HIGH = 10.0
VARIANCE_LOW = 1e-5
# SageMaker Debugger CheckInputImages.threshold_mean and threshold_samples.
INPUT_MEAN = 0.2
INPUT_MEAN_SAMPLES = 500
# SageMaker Debugger NLPSequenceRatio.token_thresholds_percent, of token 0.
TOKEN_SHARE = 0.5
# SageMaker Debugger PoorWeightInitialization.threshold, patience and steps.
INITIAL_VARIANCE_RATIO = 10.0
INITIAL_PATIENCE = 5
INITIAL_STEPS = 10
# SageMaker Debugger StalledTrainingRule.threshold, in seconds.
STALLED_SECONDS = 1800.0

# --- what a loss knows ------------------------------------------------------------------------------------------------

# Against the best constant answer, a loss counts as learnt when it is a tenth of the room better (deepchecks' rule for
# the gain over a simple model; 31 of 50 buggy programs, none of 34 healthy ones after 300 steps): the same tenth as
# NOT_LEARNING_FRACTION. By itself a run is told only when half of that is out of reach, by two standard errors of its
# last losses: what can hardly be foretold (an explained share of a few per cent) is learnt all the same. Ours.
NO_GAIN = 0.05
# ... that stands still: the last third of its losses is not lower than the third before by this share of what the
# constant loses, nor by three standard errors. Ours: slow runs (SGD at 0.03, warm-up) fall by more in 30 steps.
STANDS_STILL = 0.01
# ... after so many recorded steps since the learning rate last rose. Ours: an LSTM left its plateau after 40 steps, a
# speech encoder after 110, in healthy runs of ours; an LSTM that adds two numbers of twenty after 230, so that its
# warning is over later. The programs above were trained for 300.
NO_GAIN_STEPS = 150
NO_GAIN_FAILED_STEPS = 200
NO_GAIN_PATIENCE = 25

# The loss at the start over that of the best constant: torchtest2 asks for at most twice ln k (7 of 50 buggy programs,
# none of 34 healthy ones). Three, and still half above it after so many steps, so that what comes down fast is silent.
# Ours.
WILD_START = 3.0
WILD_START_LEFT = 1.5
WILD_START_STEPS = 40
WILD_START_FAILED_STEPS = 100

# Targets that never vary: so many steps and targets, so that sorted data and small batches have their chance. Ours.
SAME_TARGETS_STEPS = 20
SAME_TARGETS = 500
# ... proves a mistake when the loss has gone to this share of what an even guess loses: nothing is left to learn. In
# contrastive losses the right answer stands at the same place always, and it stays hard to find. Ours.
SAME_TARGETS_LOSS = 0.05

# Share of targets that the loss leaves out. Ours: masked language models leave out 85 %, instruction tuning 95 %.
IGNORED_TARGETS = 0.99
IGNORED_TARGETS_PATIENCE = 20

# Share of targets that the output cannot reach. Ours: a few outliers beyond a bound may be clipped on purpose.
OUT_OF_REACH = 0.05
OUT_OF_REACH_PATIENCE = 10

# Sums of rows and columns of a softmax are 1 to rounding, of f16 and bf16 to a hundredth.
SUMS_TO_ONE = 1e-3
SUMS_TO_ONE_NARROW = 2e-2
# ... in so many steps: no logits do that twice by chance.
ACTIVATION_PATIENCE = 3
# Without a module to prove it, outputs must fill the range of a sigmoid and never leave it for so long. Ours.
SIGMOID_RANGE = 0.9
SIGMOID_RANGE_PATIENCE = 20
# The logarithm of the sum of the exponentials of log-probabilities is 0 to rounding.
LOG_SUMS = 0.05

# One class for whole batches: 17 of 50 buggy programs and none of 34 healthy ones in more than half of 300 steps. So
# many steps in a row, of batches in which no class has more than this share of the targets; a deep network under slow
# SGD begins so, which is why it waits as long as NO_GAIN_STEPS. Ours.
ONE_CLASS_SHARE = 0.99
ONE_CLASS_TARGETS = 0.75
ONE_CLASS_PATIENCE = 150
ONE_CLASS_FAILED_PATIENCE = 200
# ... and of at least so many samples: a small batch may rightly be of one class.
FEWEST_SAMPLES = 8

# An output that differs between samples by less than rounding does, of its largest value.
CONSTANT_OUTPUT = 1e-5
CONSTANT_OUTPUT_PATIENCE = 20

# Overfitting: the validation loss this far above its best (SageMaker Debugger Overfit.ratio_threshold = 0.1), by a
# fifth of what a constant loses where that is known, in three evaluations in a row, while the training loss falls. The
# fifth is ours: on digits of other writers a healthy network loses a twentieth again after its best.
OVERFIT = 0.1
OVERFIT_ROOM = 0.2
OVERFIT_PATIENCE = 3
# A validation that was never better than this share of a constant's loss while training gains as much as this. Ours.
EVAL_GAP = 1.0
EVAL_GAP_TRAINING = 0.3
EVAL_GAP_EVALUATIONS = 3
