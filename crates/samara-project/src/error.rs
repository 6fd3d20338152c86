//! What can go wrong with a project.

use std::fmt;
use std::path::PathBuf;

use crate::ids::{ClassId, ObjectId, PictureId, TrackId};

impl ProjectError {
    /// Something in the file makes no sense.
    pub(crate) fn damaged(what: &str, why: impl fmt::Display) -> Self {
        Self::Damaged(format!(
            "{what} in the file of the project is damaged: {why}"
        ))
    }
}

/// As much of a text as a line may show.
fn shortened(text: &str) -> String {
    let (most, mut letters) = (60, text.chars());
    let mut short: String = letters.by_ref().take(most).collect();
    if letters.next().is_some() {
        short.push('…');
    }
    format!("{short:?}")
}

/// What can go wrong with a project. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// The file is none of a project, or is damaged.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Something in the file makes no sense.
    #[error("{0}")]
    Damaged(String),
    /// The disk is full.
    #[error("{}: the disk is full; nothing was changed", path.display())]
    Full {
        /// The file of the project.
        path: PathBuf,
    },
    /// Another program writes to it for too long.
    #[error("{}: another program is writing to it", path.display())]
    Busy {
        /// The file of the project.
        path: PathBuf,
    },
    /// The folder of the pictures cannot be read.
    #[error("{}: {source}", path.display())]
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no such picture.
    #[error("there is no picture {0}")]
    UnknownPicture(PictureId),
    /// There is no such object in the picture.
    #[error("there is no object {0} in this picture")]
    UnknownObject(ObjectId),
    /// There is no such object in the video.
    #[error("there is no track {0} in this video")]
    UnknownTrack(TrackId),
    /// There is no such class.
    #[error("there is no class {0}")]
    UnknownClass(ClassId),
    /// Objects have the class.
    #[error("the class {name:?} is that of objects; there are {objects}")]
    InUse {
        /// Its name.
        name: String,
        /// How many objects.
        objects: u64,
    },
    /// The name of a class is empty or too long, has spaces around it, or control characters in it.
    #[error("the name of a class has 1 to 200 letters, without spaces around it: {}", shortened(.0))]
    Name(String),
    /// The colour of a class is none.
    #[error("{0:?} is no colour; #rrggbb is one")]
    Colour(String),
    /// A class of this name is there.
    #[error("there is a class {0:?} already")]
    SameName(String),
    /// A mask of another size than its picture.
    #[error("a mask of {}x{} pixels in a picture of {}x{}", mask.0, mask.1, picture.0, picture.1)]
    Size {
        /// Width and height of the mask.
        mask: (u32, u32),
        /// Width and height of the picture; 0 while it is not known.
        picture: (u32, u32),
    },
    /// Somebody else has changed the picture since it was read.
    #[error(
        "the picture was changed by somebody else meanwhile (revision {now}, expected {expected})"
    )]
    Conflict {
        /// The revision that the caller had read.
        expected: u64,
        /// The revision that it has.
        now: u64,
    },
    /// What is to be made is there.
    #[error("{}: is there already; a new folder is needed", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A file in another format cannot be read or written.
    #[error("{}: {why}", path.display())]
    Format {
        /// The file or folder.
        path: PathBuf,
        /// Where in it, and what is wrong.
        why: String,
    },
    /// Whoever has asked for it has ended it.
    #[error("ended before it was done; nothing was written")]
    Stopped,
    /// There is nothing to be undone, or redone.
    #[error("there is nothing to {0}")]
    Nothing(&'static str),
    /// A value that makes no sense.
    #[error("{0}")]
    Value(String),
    /// One of several edits cannot be made.
    #[error("{error}")]
    Edit {
        /// Which, counted from 0.
        index: usize,
        /// Why.
        error: Box<ProjectError>,
    },
}
