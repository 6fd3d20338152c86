//! The threads that a model works on.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// The threads that a model works on: a pool of its own, one that was given, or rayon's global one. Clones
/// share the pool.
#[derive(Clone, Debug)]
pub struct Threads {
    pool: Pool,
    #[cfg(target_os = "linux")]
    pinned: Option<Arc<pinning::Pinning>>,
}

#[derive(Clone, Debug)]
enum Pool {
    Own(Arc<Own>),
    Given(Arc<ThreadPool>),
    Global,
}

/// A pool that this process made. Threads do not live on in a forked process, where work would wait for them for
/// ever: it makes the pool anew.
#[derive(Debug)]
struct Own {
    count: usize,
    /// The process that made it, and the pool.
    made: RwLock<(u32, Arc<ThreadPool>)>,
}

impl Own {
    fn new(count: usize) -> Result<Self, ThreadPoolBuildError> {
        let made = RwLock::new((std::process::id(), Self::build(count)?));
        Ok(Self { count, made })
    }

    fn build(count: usize) -> Result<Arc<ThreadPool>, ThreadPoolBuildError> {
        let builder = ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|index| format!("samara-{index}"));
        Ok(Arc::new(builder.build()?))
    }

    /// The pool of this process; `None` if the system gives it no threads.
    fn pool(&self) -> Option<Arc<ThreadPool>> {
        let process = std::process::id();
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        if made.0 == process {
            return Some(Arc::clone(&made.1));
        }
        drop(made);
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        if made.0 != process {
            let before = std::mem::replace(&mut *made, (process, Self::build(self.count).ok()?));
            // To end it would wait for its threads.
            std::mem::forget(before);
        }
        Some(Arc::clone(&made.1))
    }
}

impl Threads {
    /// A pool of its own, of `count` threads, or of one for each processor if `count` is 0.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn new(count: usize) -> Result<Self, ThreadPoolBuildError> {
        Ok(Self::in_pool(Pool::Own(Arc::new(Own::new(count)?))))
    }

    /// A pool that was given.
    pub fn of(pool: Arc<ThreadPool>) -> Self {
        Self::in_pool(Pool::Given(pool))
    }

    /// Rayon's global pool, for a program that uses it itself.
    pub fn global() -> Self {
        Self::in_pool(Pool::Global)
    }

    /// The pool that models share which were given none: one thread for each processor, made when it is first
    /// asked for. Rayon's global pool is left alone.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn shared() -> Result<Self, ThreadPoolBuildError> {
        static SHARED: OnceLock<Threads> = OnceLock::new();
        if let Some(threads) = SHARED.get() {
            return Ok(threads.clone());
        }
        let threads = Self::new(0)?;
        Ok(SHARED.get_or_init(|| threads).clone())
    }

    fn in_pool(pool: Pool) -> Self {
        Self {
            pool,
            #[cfg(target_os = "linux")]
            pinned: None,
        }
    }

    /// Keeps every thread of the pool on a processor of its own while there is work from outside of the pool
    /// (Linux; a pool with another number of threads than there are processors is left to the system).
    ///
    /// A thread that has slept is often woken on the processor of the one that wakes it, above all in a
    /// virtual machine, where a halted processor does not count as idle; they then share it for 40 ms, and
    /// every click of somebody who thinks between clicks takes as long as on one thread. It is for programs
    /// that have the machine to themselves.
    pub fn pinned(self) -> Self {
        Self {
            #[cfg(target_os = "linux")]
            pinned: Some(Arc::default()),
            ..self
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        let count = self.pool().map(|pool| pool.current_num_threads());
        count.unwrap_or_else(rayon::current_num_threads)
    }

    /// The pool; `None` stands for rayon's global one.
    fn pool(&self) -> Option<Arc<ThreadPool>> {
        match &self.pool {
            Pool::Own(own) => own.pool(),
            Pool::Given(pool) => Some(Arc::clone(pool)),
            Pool::Global => None,
        }
    }

    /// Runs `work` on a thread of the pool, where parallel operations stay in the pool; a thread of the pool
    /// runs it itself. Started from any other thread, each parallel operation would wake the pool and wait
    /// for it, which takes longer than the small ones do.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let pool = self.pool();
        let inside = match &pool {
            Some(pool) => pool.current_thread_index(),
            None => rayon::current_thread_index(),
        };
        if inside.is_some() {
            return work();
        }
        #[cfg(target_os = "linux")]
        let _at_work = self.pinned.as_ref().map(|pinned| pinned.begin(self));
        match &pool {
            Some(pool) => pool.install(work),
            None => rayon::scope(|_| work()),
        }
    }
}

#[cfg(target_os = "linux")]
mod pinning {
    use std::mem;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use rayon::BroadcastContext;

    use super::Threads;

    /// What is known of the threads of a pool.
    #[derive(Debug, Default)]
    pub(super) struct Pinning(Mutex<State>);

    #[derive(Debug, Default)]
    struct State {
        /// By their index; `None` for those that have not told yet.
        threads: Vec<Option<Thread>>,
        /// Callers whose work is being done.
        at_work: usize,
    }

    impl Pinning {
        fn lock(&self) -> MutexGuard<'_, State> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// A piece of work from outside of the pool begins.
        pub(super) fn begin(self: &Arc<Self>, threads: &Threads) -> AtWork {
            let mut state = self.lock();
            if state.threads.is_empty() {
                state.threads = vec![None; threads.count()];
                self.ask(threads);
            }
            if state.at_work == 0 {
                state.threads.iter().flatten().for_each(Thread::place);
            }
            state.at_work += 1;
            AtWork(Arc::clone(self))
        }

        /// Asks every thread who it is.
        fn ask(self: &Arc<Self>, threads: &Threads) {
            let pinning = Arc::clone(self);
            let tell = move |context: BroadcastContext<'_>| {
                let thread = Thread::current(context.index(), context.num_threads());
                if let Some(place) = pinning.lock().threads.get_mut(context.index()) {
                    *place = thread;
                }
            };
            match threads.pool() {
                Some(pool) => pool.spawn_broadcast(tell),
                None => rayon::spawn_broadcast(tell),
            }
        }
    }

    /// A piece of work from outside of the pool.
    pub(super) struct AtWork(Arc<Pinning>);

    impl Drop for AtWork {
        fn drop(&mut self) {
            let mut state = self.0.lock();
            state.at_work -= 1;
            if state.at_work == 0 {
                state.threads.iter().flatten().for_each(Thread::release);
            }
        }
    }

    /// A thread, the processors that it may run on, and the one of them that is its own.
    #[derive(Clone, Copy)]
    struct Thread {
        id: libc::pid_t,
        processors: libc::cpu_set_t,
        own: libc::cpu_set_t,
    }

    impl std::fmt::Debug for Thread {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_tuple("Thread").field(&self.id).finish()
        }
    }

    impl Thread {
        /// The thread that asks, number `index` of `count`. Where there are not as many processors, none is
        /// its own. `None` where the system does not tell.
        #[expect(unsafe_code, reason = "the system's own interface")]
        fn current(index: usize, count: usize) -> Option<Self> {
            // SAFETY: the first call writes the set, all bits of which may be zero, in the length that is
            // told; the others read and write bits of sets, at places that are smaller than their size.
            unsafe {
                let mut processors: libc::cpu_set_t = mem::zeroed();
                let size = size_of_val(&processors);
                if libc::sched_getaffinity(0, size, &raw mut processors) != 0 {
                    return None;
                }
                let may = |processor: &usize| libc::CPU_ISSET(*processor, &processors);
                let all: Vec<usize> = (0..8 * size).filter(may).collect();
                let mut own = processors;
                if all.len() == count {
                    libc::CPU_ZERO(&mut own);
                    libc::CPU_SET(all[index], &mut own);
                }
                Some(Self {
                    id: libc::gettid(),
                    processors,
                    own,
                })
            }
        }

        /// Keeps it on the processor that is its own.
        fn place(&self) {
            self.allow(&self.own);
        }

        /// Lets it run on all of its processors again.
        fn release(&self) {
            self.allow(&self.processors);
        }

        /// A hint: where the system refuses, or the thread has ended, nothing changes.
        #[expect(unsafe_code, reason = "the system's own interface")]
        fn allow(&self, processors: &libc::cpu_set_t) {
            // SAFETY: the call reads the set, in the length that is told.
            unsafe {
                libc::sched_setaffinity(self.id, size_of_val(processors), processors);
            }
        }
    }

    #[cfg(test)]
    pub(super) mod tests {
        use std::thread;

        use super::*;

        #[expect(unsafe_code, reason = "the system's own interface")]
        pub(crate) fn processors() -> usize {
            let thread = Thread::current(0, 0).unwrap();
            // SAFETY: the call reads the set.
            unsafe { libc::CPU_COUNT(&thread.processors) as usize }
        }

        #[test]
        fn a_thread_is_kept_on_one_processor_and_released() {
            thread::spawn(|| {
                let all = processors();
                Thread::current(0, all + 1).unwrap().place();
                assert_eq!(processors(), all, "a pool of another size");
                let thread = Thread::current(all - 1, all).unwrap();
                thread.place();
                assert_eq!(processors(), 1);
                thread.release();
                assert_eq!(processors(), all);
            })
            .join()
            .unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Threads;

    #[test]
    fn work_stays_in_the_pool_that_it_was_given_to() {
        assert_eq!(rayon::current_thread_index(), None);
        let (three, shared) = (Threads::new(3).unwrap(), Threads::shared().unwrap());
        assert_eq!(three.count(), 3);
        three.run(|| {
            assert_eq!(rayon::current_num_threads(), 3);
            let outer = rayon::current_thread_index();
            assert!(outer.is_some());
            assert_eq!(three.run(rayon::current_thread_index), outer);
            // Another pool takes the work over.
            assert_eq!(shared.run(rayon::current_num_threads), shared.count());
        });
        let name = three.run(|| std::thread::current().name().map(str::to_owned));
        assert!(name.unwrap().starts_with("samara-"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_are_pinned_only_while_they_work_and_only_if_that_was_asked_for() {
        use super::pinning::tests::processors;
        let all = processors();
        let count = |threads: &Threads| -> Vec<usize> {
            threads.pool().unwrap().broadcast(|_| processors())
        };
        let plain = Threads::new(all).unwrap();
        plain.run(|| rayon::broadcast(|_| ()));
        assert!(plain.run(|| count(&plain)).iter().all(|&n| n == all));

        let pinned = Threads::new(all).unwrap().pinned();
        // The threads tell who they are during the first piece of work.
        pinned.run(|| rayon::broadcast(|_| ()));
        let (during, after) = (pinned.run(|| count(&pinned)), count(&pinned));
        assert!(during.iter().all(|&n| n == 1), "{during:?}");
        assert!(after.iter().all(|&n| n == all), "{after:?}");
    }
}
