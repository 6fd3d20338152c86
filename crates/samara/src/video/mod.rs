//! Following objects through a video.

mod bank;
mod carried;
mod direction;
mod frame;
mod object_mask;
mod options;
mod propagate;
mod remembered;
mod saved;
mod session;

pub use direction::{Direction, ObjectId, Position};
pub use frame::VideoFrame;
pub use object_mask::{FrameMasks, ObjectMask};
pub use options::VideoOptions;
pub use propagate::Progress;
pub use session::VideoSession;
