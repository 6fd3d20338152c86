//! The threads of rayon's global pool, each on a processor of its own.

/// Runs `work` on a thread of the global pool; where it is on one already, it stays there. Started from
/// any other thread, each parallel operation would wake the pool and wait for it, which takes longer
/// than the small ones do.
///
/// While there is such work, every thread of a pool with as many threads as there are processors is kept
/// on one of its own (Linux). A thread that has slept is otherwise often woken on the processor of the one
/// that wakes it, above all in a virtual machine, where a halted processor does not count as idle; they
/// then share it for 40 ms, and every click of somebody who thinks between clicks takes as long as on one
/// thread. A smaller pool is left to the system, which knows what else runs.
pub fn in_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if rayon::current_thread_index().is_some() {
        return work();
    }
    #[cfg(target_os = "linux")]
    let _at_work = linux::AtWork::begin();
    rayon::scope(|_| work())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::mem;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    static POOL: Mutex<Pool> = Mutex::new(Pool {
        threads: Vec::new(),
        at_work: 0,
    });

    /// What is known of the global pool.
    struct Pool {
        /// By their index; `None` for those that have not told yet.
        threads: Vec<Option<Thread>>,
        /// Callers whose work is being done.
        at_work: usize,
    }

    impl Pool {
        fn lock() -> MutexGuard<'static, Self> {
            POOL.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// Asks every thread who it is.
        fn ask(&mut self) {
            self.threads = vec![None; rayon::current_num_threads()];
            rayon::spawn_broadcast(|context| {
                let thread = Thread::current(context.index(), context.num_threads());
                Self::lock().threads[context.index()] = thread;
            });
        }
    }

    /// A piece of work from outside of the pool.
    pub(super) struct AtWork;

    impl AtWork {
        pub(super) fn begin() -> Self {
            let mut pool = Pool::lock();
            if pool.threads.is_empty() {
                pool.ask();
            }
            if pool.at_work == 0 {
                pool.threads.iter().flatten().for_each(Thread::place);
            }
            pool.at_work += 1;
            Self
        }
    }

    impl Drop for AtWork {
        fn drop(&mut self) {
            let mut pool = Pool::lock();
            pool.at_work -= 1;
            if pool.at_work == 0 {
                pool.threads.iter().flatten().for_each(Thread::release);
            }
        }
    }

    /// A thread, the processors that it may run on, and the one of them that is its own.
    #[derive(Clone, Copy)]
    pub(super) struct Thread {
        id: libc::pid_t,
        processors: libc::cpu_set_t,
        own: libc::cpu_set_t,
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
    use super::in_pool;

    #[test]
    fn work_moves_to_the_pool_whose_threads_are_free_afterwards() {
        assert_eq!(rayon::current_thread_index(), None);
        let (outer, inner) = in_pool(|| {
            let inner = in_pool(rayon::current_thread_index);
            (rayon::current_thread_index(), inner)
        });
        assert!(outer.is_some());
        assert_eq!(outer, inner);
        #[cfg(target_os = "linux")]
        {
            let all = super::linux::tests::processors();
            in_pool(|| rayon::broadcast(|_| ()));
            let free = rayon::broadcast(|_| super::linux::tests::processors());
            assert!(free.iter().all(|&free| free == all), "{free:?} of {all}");
        }
    }
}
