//! Owns the threads that a scan works on: those of an OpenMP runtime where the host has handed one over, else threads made for the call.
//! Knows nothing of tasks.
//!
//! Scoped threads live for one call: no pool that a `fork` could break or an interpreter exit could hang on. Beside a library that computes
//! with OpenMP (torch does) they come at a price: its threads wait busily for their next work, and a thread of ours on the same core waits
//! with them. Working on that library's own threads takes a microsecond to begin, and nobody waits for anybody.

use core::any::Any;
use core::ffi::{c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::number::environment::with_standard_floats;

/// Measured, see benches/README.md: threads of our own take some 40 us to begin and to end, those of a runtime 2.
const SINGLE_BESIDE_SCOPED: u64 = 2 << 20;
const SINGLE_BESIDE_OPENMP: u64 = 512 << 10;

/// Threads this process may run at once.
pub fn available_threads() -> usize {
    static AVAILABLE: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *AVAILABLE.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

/// What each thread of a team runs.
type Body = unsafe extern "C" fn(*mut c_void);

/// `GOMP_parallel(body, data, threads, flags)` of GNU's OpenMP runtime; LLVM's and Intel's have it too. Runs `body(data)` on up to
/// `threads` threads, the calling one among them, and returns when all are done.
pub type Parallel = unsafe extern "C" fn(Body, *mut c_void, c_uint, c_uint);

/// The function in use, null for none, and the process that handed it over: the runtime's threads do not survive a `fork`.
static PARALLEL: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Works on the threads of an OpenMP runtime from now on, in this process but not in its children; `None` goes back to threads of our own.
///
/// # Safety
/// The function must be `GOMP_parallel` of a runtime that stays loaded.
pub unsafe fn use_openmp(parallel: Option<Parallel>) {
    PROCESS.store(std::process::id(), Ordering::Relaxed);
    PARALLEL.store(parallel.map_or(core::ptr::null_mut(), |f| f as *mut c_void), Ordering::Release);
}

/// Whether the next scan works on the threads of an OpenMP runtime.
pub fn uses_openmp() -> bool {
    openmp().is_some()
}

fn openmp() -> Option<Parallel> {
    let pointer = PARALLEL.load(Ordering::Acquire);
    if pointer.is_null() || PROCESS.load(Ordering::Relaxed) != std::process::id() {
        return None;
    }
    // SAFETY: only `use_openmp` stores here, from a function of this type.
    Some(unsafe { core::mem::transmute::<*mut c_void, Parallel>(pointer) })
}

/// Bytes up to which one thread is as fast as two: what is counted in the time that it takes a second thread to begin and to end.
pub(crate) fn single_thread_bytes() -> u64 {
    if uses_openmp() { SINGLE_BESIDE_OPENMP } else { SINGLE_BESIDE_SCOPED }
}

/// Runs `work` on up to `threads` threads, the calling one among them, and returns when all are done. `work` is told whether it is on the
/// calling thread, and finds the standard floating-point mode.
pub(crate) fn together(threads: usize, work: &(dyn Fn(bool) + Sync)) {
    if threads <= 1 {
        return work(true);
    }
    match openmp() {
        // More than there are cores are of no use, and where memory does not suffice for them a runtime ends the process.
        Some(parallel) if threads <= available_threads() => on_openmp(parallel, threads, work),
        _ => on_scoped(threads, work),
    }
}

fn on_scoped(threads: usize, work: &(dyn Fn(bool) + Sync)) {
    thread::scope(|scope| {
        for _ in 1..threads {
            // New threads inherit the caller's floating-point mode; merging needs the standard one as much as counting does.
            let helper = || with_standard_floats(|| work(false));
            if thread::Builder::new().spawn_scoped(scope, helper).is_err() {
                break; // where the system refuses another thread, the ones there are do the work
            }
        }
        work(true);
    });
}

/// What the threads of a team share. A panic must not unwind through the runtime, which is C: it goes on on the calling thread.
struct Shared<'a> {
    work: &'a (dyn Fn(bool) + Sync),
    caller: usize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

fn on_openmp(parallel: Parallel, threads: usize, work: &(dyn Fn(bool) + Sync)) {
    let shared = Shared { work, caller: this_thread(), panic: Mutex::new(None) };
    let threads = c_uint::try_from(threads).unwrap_or(c_uint::MAX);
    // SAFETY: `use_openmp` vouches for the function. It returns when every thread has left `body`, so `shared` outlives all uses, and it
    // is `Sync`.
    unsafe { parallel(body, (&raw const shared).cast_mut().cast(), threads, 0) };
    if let Some(panic) = shared.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
        resume_unwind(panic);
    }
}

unsafe extern "C" fn body(data: *mut c_void) {
    // SAFETY: the pointer that `on_openmp` gave the runtime.
    let shared = unsafe { &*data.cast::<Shared<'_>>() };
    let done = catch_unwind(AssertUnwindSafe(|| {
        with_standard_floats(|| (shared.work)(this_thread() == shared.caller));
    }));
    if let Err(panic) = done {
        shared.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
    }
}

/// A number that no two living threads share.
fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| (&raw const *here).addr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// A runtime of one's own: every thread but the calling one is made anew.
    unsafe extern "C" fn parallel(body: Body, data: *mut c_void, threads: c_uint, _flags: c_uint) {
        struct Data(*mut c_void);
        // SAFETY: the scope below ends before the call does.
        unsafe impl Sync for Data {}
        let data = Data(data);
        let data = &data;
        thread::scope(|scope| {
            for _ in 1..threads {
                // SAFETY: as GOMP_parallel does.
                scope.spawn(move || unsafe { body(data.0) });
            }
            // SAFETY: as above.
            unsafe { body(data.0) };
        });
    }

    #[test]
    fn every_thread_works_and_one_is_the_caller() {
        for threads in 1..=7 {
            for run in [on_scoped as fn(usize, &(dyn Fn(bool) + Sync)), |n, work| on_openmp(parallel, n, work)] {
                let (all, callers) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let here = thread::current().id();
                run(threads, &|caller| {
                    all.fetch_add(1, Ordering::Relaxed);
                    callers.fetch_add(usize::from(caller), Ordering::Relaxed);
                    assert_eq!(caller, thread::current().id() == here);
                });
                assert_eq!((all.into_inner(), callers.into_inner()), (threads, 1));
            }
        }
    }

    #[test]
    fn a_panic_of_any_thread_arrives_at_the_caller() {
        for at_caller in [true, false] {
            let panicked = catch_unwind(|| {
                on_openmp(parallel, 3, &|caller| assert!(caller != at_caller, "planned"));
            });
            assert!(panicked.is_err());
        }
    }
}
