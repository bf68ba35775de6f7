"""Exports of histograms as the libraries they are for read them back."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from uhi.io import json as uhi_json

import tensorstats as ts

AXES = [ts.axis.Regular(10, -3.0, 3.0), ts.axis.Variable([-3.0, -0.1, 0.0, 2.0]), ts.axis.LogLinear(3)]
axes = pytest.mark.parametrize("axis", AXES, ids=repr)


def filled() -> np.ndarray:
    values = np.random.default_rng(0).standard_normal(5000).astype(np.float32) * 2
    values[:4] = np.nan
    values[4:7] = np.inf
    values[7:9] = -np.inf
    values[9:20] = 0
    return values


# --- UHI: hist, boost-histogram, mplhep -------------------------------------------------------------------------------


@axes
@pytest.mark.parametrize("values", [filled(), np.array([math.nan, math.inf])], ids=["filled", "nothing finite"])
def test_uhi_json_follows_its_schema_and_is_read_back(axis: ts.axis.Axis, values: np.ndarray, tmp_path: Path):
    import boost_histogram
    import hist
    import uhi.schema

    h = ts.histogram(values, axis)
    text = json.dumps(h, default=uhi_json.default)
    uhi.schema.validate_histogram(json.loads(text))
    read = json.loads(text, object_hook=uhi_json.object_hook)
    assert read["metadata"] == {name: getattr(h, name) for name in ("nan_count", "posinf_count", "neginf_count")}
    for library in (boost_histogram.Histogram, hist.Hist):
        theirs = library(read)
        flow = theirs.view(flow=True)
        assert flow.dtype == np.int64
        assert flow[[0, -1]].tolist() == [h.underflow, h.overflow]
        assert flow.sum() == h.count - h.nan_count
        if len(h.values()):
            assert np.array_equal(flow, h.view(flow=True))
            # Equal bins are cut by other arithmetic there.
            np.testing.assert_allclose(theirs.axes[0].edges, h.edges, rtol=1e-15, atol=1e-15)
            assert isinstance(axis, ts.axis.Regular) or np.array_equal(theirs.axes[0].edges, h.edges)


@axes
def test_mplhep_draws_what_was_counted(axis: ts.axis.Axis):
    import mplhep
    from matplotlib.figure import Figure

    h = ts.histogram(filled(), axis)
    ax = Figure().subplots()
    (artist,) = mplhep.histplot(h, ax=ax, yerr=False, flow="none")
    drawn = artist.stairs.get_data()
    assert np.array_equal(drawn.values, h.values())
    assert np.array_equal(drawn.edges, h.edges)


# --- TensorBoard ------------------------------------------------------------------------------------------------------


def accumulated(folder: Path) -> object:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # Without the Rust data server, whose form is another.
    return EventAccumulator(str(folder), size_guidance={"histograms": 0, "tensors": 0}).Reload()


@axes
def test_tensorboard_reads_an_event_file_of_torch(axis: ts.axis.Axis, tmp_path: Path):
    from torch.utils.tensorboard import SummaryWriter

    values = filled()
    h, s = ts.histogram(values, axis), ts.summary(values)
    fields = h.to_tensorboard(s)
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_histogram_raw("weights", *fields, global_step=7)
    (event,) = accumulated(tmp_path).Histograms("weights")
    assert event.step == 7
    read = event.histogram_value
    assert {name: getattr(read, name) for name in fields._fields} == fields._asdict()


@axes
@pytest.mark.parametrize("values", [filled(), np.array([3.0]), np.zeros(5)], ids=["filled", "one", "zeros"])
def test_the_tensor_is_what_tensorboard_makes_of_the_message(axis: ts.axis.Axis, values: np.ndarray):
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
    from tensorboard.data_compat import migrate_value
    from tensorboard.util import tensor_util

    fields = ts.histogram(values, axis).to_tensorboard(ts.summary(values))
    value = Summary.Value(tag="weights", histo=HistogramProto(**fields._asdict()))
    migrated = tensor_util.make_ndarray(migrate_value(value).tensor)
    assert np.array_equal(migrated, fields.to_tensor().astype(np.float32))


def test_tensorboard_reads_the_tensor(tmp_path: Path):
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.histogram.metadata import create_summary_metadata
    from tensorboard.util import tensor_util
    from torch.utils.tensorboard import FileWriter

    values = filled()
    tensor = ts.histogram(values, ts.axis.LogLinear(3)).to_tensorboard(ts.summary(values)).to_tensor()
    writer = FileWriter(str(tmp_path))
    proto = tensor_util.make_tensor_proto(tensor)
    writer.add_summary(
        Summary(value=[Summary.Value(tag="weights", metadata=create_summary_metadata(None, None), tensor=proto)]), 3
    )
    writer.close()
    (event,) = accumulated(tmp_path).Tensors("weights")
    assert np.array_equal(tensor_util.make_ndarray(event.tensor_proto), tensor)


# --- Weights & Biases -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [*AXES, ts.axis.LogLinear(10), ts.axis.Regular(5000, -1, 1)], ids=repr)
def test_wandb_takes_the_histogram(axis: ts.axis.Axis, tmp_path: Path):
    wandb = pytest.importorskip("wandb")

    values = filled()
    h, s = ts.histogram(values, axis), ts.summary(values)
    found = h.to_wandb(s)
    assert isinstance(found, wandb.Histogram)
    assert len(found.histogram) <= wandb.Histogram.MAX_LENGTH
    assert len(found.bins) == len(found.histogram) + 1
    assert sum(found.histogram) == s.finite_count
    assert json.loads(json.dumps(found.to_json()))["values"] == found.histogram


# --- OpenTelemetry ----------------------------------------------------------------------------------------------------


def test_opentelemetry_message():
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.metrics.v1.metrics_pb2 import ExponentialHistogramDataPoint

    values = np.abs(filled())
    h, s = ts.histogram(values, ts.axis.LogLinear(6)), ts.summary(values)
    point = json.loads(json.dumps(h.to_opentelemetry(3, s)))
    message = ParseDict(point | {"timeUnixNano": "1700000000000000000"}, ExponentialHistogramDataPoint())
    assert message.count == s.finite_count
    # What the message says of itself: the count is that of all buckets.
    in_buckets = [*message.positive.bucket_counts, *message.negative.bucket_counts]
    assert message.count == sum(in_buckets) + message.zero_count
    assert (message.scale, message.zero_count, message.zero_threshold) == (3, 11, 0)
    assert (message.min, message.max, message.sum) == (s.min, s.max, s.sum)
    assert message.positive.offset == point["positive"]["offset"]
    # No value is above the upper end of the last bucket, none below the lower end of the first.
    base = 2 ** (2**-3)
    assert base**message.positive.offset <= s.absmin * (1 + 2**-7)
    assert base ** (message.positive.offset + len(message.positive.bucket_counts)) >= s.max * (1 - 2**-7)


# --- Prometheus -------------------------------------------------------------------------------------------------------


def test_prometheus_message():
    """The message of client_model's metrics.proto, by the numbers and types of its fields."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from google.protobuf.json_format import MessageToDict

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package="io.prometheus.client", syntax="proto2")
    span = file.message_type.add(name="BucketSpan")
    message = file.message_type.add(name="Histogram")
    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    for owner, name, number, kind, label in [
        (span, "offset", 1, kinds.TYPE_SINT32, one),
        (span, "length", 2, kinds.TYPE_UINT32, one),
        (message, "sample_count", 1, kinds.TYPE_UINT64, one),
        (message, "sample_sum", 2, kinds.TYPE_DOUBLE, one),
        (message, "schema", 5, kinds.TYPE_SINT32, one),
        (message, "zero_threshold", 6, kinds.TYPE_DOUBLE, one),
        (message, "zero_count", 7, kinds.TYPE_UINT64, one),
        (message, "negative_span", 9, kinds.TYPE_MESSAGE, many),
        (message, "negative_delta", 10, kinds.TYPE_SINT64, many),
        (message, "positive_span", 12, kinds.TYPE_MESSAGE, many),
        (message, "positive_delta", 13, kinds.TYPE_SINT64, many),
    ]:
        field = owner.field.add(name=name, number=number, type=kind, label=label)
        if kind == kinds.TYPE_MESSAGE:
            field.type_name = ".io.prometheus.client.BucketSpan"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    histogram = message_factory.GetMessageClass(pool.FindMessageTypeByName("io.prometheus.client.Histogram"))

    values = filled()
    native = ts.histogram(values, ts.axis.LogLinear(6)).to_prometheus(ts.summary(values), 3)
    parsed = histogram(**native)
    assert parsed.sample_count == values.size
    assert list(parsed.negative_delta) == native["negative_delta"]
    assert [{"offset": s.offset, "length": s.length} for s in parsed.positive_span] == native["positive_span"]
    assert MessageToDict(histogram.FromString(parsed.SerializeToString())) == MessageToDict(parsed)


def test_prometheus_client_writes_and_parses_it():
    from prometheus_client.core import BucketSpan, Metric, NativeHistogram
    from prometheus_client.openmetrics import exposition, parser

    # Above 1: its parser knows no negative offsets.
    values = np.abs(np.random.default_rng(0).standard_normal(1000)) + 1.001
    native = ts.histogram(values, ts.axis.LogLinear(6)).to_prometheus(ts.summary(values), 3)
    sample = NativeHistogram(
        count_value=native["sample_count"],
        sum_value=native["sample_sum"],
        schema=native["schema"],
        zero_threshold=native["zero_threshold"],
        zero_count=native["zero_count"],
        pos_spans=[BucketSpan(**span) for span in native["positive_span"]],
        pos_deltas=native["positive_delta"],
    )
    metric = Metric("weights", "of a layer", "histogram")
    metric.add_sample("weights", {}, 0, native_histogram=sample)

    class Registry:
        def collect(self) -> list[Metric]:
            return [metric]

    text = exposition.generate_latest(Registry(), version="2.0.0").decode()
    (family,) = parser.text_string_to_metric_families(text)
    read = family.samples[0].native_histogram
    assert read[:5] == sample[:5]
    assert (list(read.pos_spans), list(read.pos_deltas)) == (sample.pos_spans, sample.pos_deltas)
    assert not read.neg_spans
    assert not read.neg_deltas
