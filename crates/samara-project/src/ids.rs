//! By which classes, objects and pictures are named.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// Which class.
    ClassId
}
id! {
    /// Which object; numbers of objects that were removed are not used again.
    ObjectId
}
id! {
    /// Which picture, video, or frame of one.
    PictureId
}
id! {
    /// Which object of a video, from 1 to 65 535.
    TrackId
}

impl TrackId {
    /// The highest number: that of an object which a model follows.
    const MOST: i64 = 65_535;

    /// Whether there may be such a one.
    pub(crate) fn is_valid(self) -> bool {
        (1..=Self::MOST).contains(&self.0)
    }
}
