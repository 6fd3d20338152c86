//! Where a model runs: device and threads.

use std::sync::Arc;

use rayon::ThreadPool;
use samara_kernels::threads::Threads;

use crate::{DeviceKind, Error, OptionError, Precision, Result};

/// Where a model runs. By default on the processor, on threads that all models of the program share and
/// that nothing else uses: rayon's global pool is left alone, and no thread is bound to a processor.
///
/// A [`DeviceKind`] alone stands for these options with that device.
///
/// ```
/// use samara::{DeviceKind, SegmenterOptions};
///
/// let two_threads = SegmenterOptions::new().with_threads(2);
/// let gpu: SegmenterOptions = DeviceKind::Wgpu.into();
/// # assert_ne!(two_threads.device(), gpu.device());
/// ```
#[derive(Debug, Clone, Default)]
pub struct SegmenterOptions {
    device: DeviceKind,
    precision: Precision,
    pool: PoolChoice,
    pinned: bool,
}

#[derive(Debug, Clone, Default)]
enum PoolChoice {
    #[default]
    Shared,
    Own(usize),
    Given(Arc<ThreadPool>),
    Global,
}

impl SegmenterOptions {
    /// Most threads of a pool.
    pub const MOST_THREADS: usize = 1024;

    /// The processor and the shared threads.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs on this kind of device.
    pub fn with_device(mut self, device: DeviceKind) -> Self {
        self.device = device;
        self
    }

    /// Works on a pool of its own, of `count` threads, or of one for each processor if `count` is 0; more than
    /// 1024 are refused when the model is loaded.
    pub fn with_threads(mut self, count: usize) -> Self {
        self.pool = PoolChoice::Own(count);
        self
    }

    /// Works on the threads of this pool.
    pub fn with_thread_pool(mut self, pool: Arc<ThreadPool>) -> Self {
        self.pool = PoolChoice::Given(pool);
        self
    }

    /// Works on the threads of rayon's global pool, for a program that uses that pool itself and waits for
    /// the model meanwhile.
    pub fn with_global_thread_pool(mut self) -> Self {
        self.pool = PoolChoice::Global;
        self
    }

    /// Keeps each thread of the pool on a processor of its own while the model works (Linux). A click is up
    /// to twice as fast on a machine that has nothing else to do, above all a virtual one, and slower on
    /// a busy one.
    pub fn with_pinned_threads(mut self, pinned: bool) -> Self {
        self.pinned = pinned;
        self
    }

    /// Multiplies in these numbers on the processor.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// The numbers in which it multiplies.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The device.
    pub fn device(&self) -> DeviceKind {
        self.device
    }

    pub(crate) fn threads(&self) -> Result<Threads> {
        let threads = match &self.pool {
            PoolChoice::Shared => Threads::shared(),
            PoolChoice::Own(count) if *count > Self::MOST_THREADS => {
                let why = format!("{count}: at most {}", Self::MOST_THREADS);
                return Err(OptionError::new("threads", why).into());
            }
            PoolChoice::Own(count) => Threads::new(*count),
            PoolChoice::Given(pool) => Ok(Threads::of(Arc::clone(pool))),
            PoolChoice::Global => Ok(Threads::global()),
        };
        let threads = threads.map_err(|error| Error::Threads(error.into()))?;
        Ok(if self.pinned {
            threads.pinned()
        } else {
            threads
        })
    }
}

impl From<DeviceKind> for SegmenterOptions {
    fn from(device: DeviceKind) -> Self {
        Self::new().with_device(device)
    }
}
