//! Owns the way a big job is cut into tasks, run on threads and put together in index order. Knows nothing of what a task counts.

use crate::parallel::team::available_threads;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::parallel::team::{single_thread_bytes, together};

/// How a scan runs. Affects time, never results.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Most threads to use, the calling one included.
    pub threads: usize,
    /// SIMD level.
    pub level: crate::Level,
    /// Asked on the calling thread between tasks; `true` stops the scan, whose result is then meaningless.
    pub interrupted: &'a (dyn Fn() -> bool + 'a),
}

impl Options<'_> {
    /// As many threads as [`thread_count`] says, at the current level, without interruption.
    pub fn standard() -> Self {
        Self { threads: thread_count(), level: crate::Level::current(), interrupted: &|| false }
    }

    /// The same with one thread where so few bytes are not worth a second one.
    pub(crate) fn for_bytes(&self, bytes: u64) -> Self {
        Self { threads: if bytes <= single_thread_bytes() { 1 } else { self.threads }, ..*self }
    }
}

/// No override; set by [`set_thread_count`].
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Threads a scan may use: the override where one is set, else what the machine (its affinity mask and cgroup) allows.
pub fn thread_count() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => available_threads(),
        n => n,
    }
}

/// Fixes the thread count for the whole process; `None` goes back to what the machine allows.
pub fn set_thread_count(threads: Option<usize>) {
    THREADS.store(threads.unwrap_or(0), Ordering::Relaxed);
}

/// The tasks of several jobs, numbered through.
pub(crate) struct Shares {
    /// Number of each job's first task.
    first: Vec<usize>,
    total: usize,
}

impl Shares {
    /// From the number of tasks of each job.
    pub(crate) fn new(tasks: impl Iterator<Item = usize>) -> Self {
        let (mut first, mut total) = (Vec::new(), 0);
        for n in tasks {
            first.push(total);
            total += n;
        }
        Self { first, total }
    }

    /// All tasks.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// The job of a task, and the task's number among that job's own.
    pub(crate) fn owner(&self, task: usize) -> (usize, usize) {
        // The last job that starts at or before this task; jobs without tasks are never chosen.
        let job = self.first.partition_point(|&first| first <= task) - 1;
        (job, task - self.first[job])
    }
}

/// Results waiting for their turn, and the consumer that takes them in order.
struct InOrder<R, F> {
    next: usize,
    waiting: Vec<(usize, R)>,
    take: F,
}

impl<R, F: FnMut(R)> InOrder<R, F> {
    fn put(&mut self, index: usize, result: R) {
        if index != self.next {
            self.waiting.push((index, result));
            return;
        }
        (self.take)(result);
        self.next += 1;
        while let Some(at) = self.waiting.iter().position(|(i, _)| *i == self.next) {
            let (_, result) = self.waiting.swap_remove(at);
            (self.take)(result);
            self.next += 1;
        }
    }
}

/// Runs tasks `0..tasks` on up to `threads` threads. Each thread makes one `local` scratch value; `take` receives the results in index
/// order, whatever thread made them. Returns the scratch values.
pub fn ordered<S: Send, R: Send>(
    tasks: usize,
    options: &Options<'_>,
    local: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> R + Sync,
    mut take: impl FnMut(R) + Send,
) -> Vec<S> {
    let threads = options.threads.min(tasks).max(1);
    if threads == 1 {
        let mut scratch = local();
        for task in 0..tasks {
            take(work(&mut scratch, task));
            if (options.interrupted)() {
                break;
            }
        }
        return vec![scratch];
    }
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let results = Mutex::new(InOrder { next: 0, waiting: Vec::new(), take });
    let all_scratch = Mutex::new(Vec::with_capacity(threads));
    // Only the calling thread may ask, and only it does.
    let interrupted = OnCaller(options.interrupted);
    together(threads, &|caller| {
        let mut scratch = local();
        while !stop.load(Ordering::Relaxed) {
            let task = next.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                break;
            }
            let result = work(&mut scratch, task);
            lock(&results).put(task, result);
            if caller && interrupted.ask() {
                stop.store(true, Ordering::Relaxed);
            }
        }
        lock(&all_scratch).push(scratch);
    });
    all_scratch.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A question that only the calling thread may ask.
struct OnCaller<'a>(&'a dyn Fn() -> bool);

// SAFETY: `ordered` asks on the calling thread alone; the others only hold the reference.
unsafe impl Sync for OnCaller<'_> {}

impl OnCaller<'_> {
    fn ask(&self) -> bool {
        (self.0)()
    }
}
