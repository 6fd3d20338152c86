//! Projects: the masks of a folder of pictures, kept in a file beside them.
//!
//! A [`Project`] is an SQLite file, `samara.project`, in the folder of the pictures. Whatever is done to it is one
//! transaction: it is kept as a whole or not at all, whenever the program ends and however full the disk is. All that
//! people do with masks goes through [`Project::apply`], is recorded with who did it, and can be undone.
//! [`Project::import`] and [`Project::export`] read and write the formats of other programs.
//!
//! ```
//! use samara_image::Mask;
//! use samara_project::{Edit, NewObject, Project};
//! # let folder = tempfile::tempdir()?;
//! # std::fs::write(folder.path().join("photo.jpg"), "not read")?;
//!
//! let project = Project::open(folder.path())?;
//! project.scan()?;
//! let picture = project.pictures()?[0].id;
//! project.identify(picture, "sha256 of the file", 64, 48)?;
//!
//! let mask = Mask::from_fn(64, 48, |x, y| x < 10 && y < 10);
//! let edit = Edit::Add(NewObject::new(mask.to_rle()));
//! project.apply(picture, "me", &[edit], None)?;
//! assert_eq!(project.objects(picture)?.len(), 1);
//! project.undo(picture, None)?;
//! assert_eq!(project.objects(picture)?.len(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod changes;
mod classes;
mod database;
mod error;
mod export;
mod failure;
mod header;
mod history;
mod ids;
mod import;
mod leftover;
mod objects;
mod opened;
mod pictures;
mod project;
mod tracks;
mod video_file;
mod videos;

pub use classes::Class;
pub use database::Version;
pub use error::ProjectError;
pub use export::{ExportFormat, ExportOptions, Exported};
pub use history::{Action, ActionId, Applied, Edit};
pub use ids::{ClassId, ObjectId, PictureId, TrackId};
pub use import::{ImportFormat, Imported, Took};
pub use objects::{MOST_WORDS, NewObject, Object, Track};
pub use opened::Opened;
pub use pictures::{Picture, Scanned};
pub use project::{FILE_NAME, Project};
pub use video_file::{VideoFile, frame_id, is_video, sha256_of};
pub use videos::Placed;

/// Results of projects.
pub type Result<T, E = ProjectError> = std::result::Result<T, E>;
