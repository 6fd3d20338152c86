//! What is kept of a picture, as it is opened.

use serde::Serialize;

use crate::Result;
use crate::history::steps;
use crate::ids::PictureId;
use crate::objects::Object;
use crate::pictures::Picture;
use crate::project::Project;

/// A picture with its objects, all at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Opened {
    /// The picture.
    pub picture: Picture,
    /// Its objects, the lowest first.
    pub objects: Vec<Object>,
    /// Whether there is an action to be undone.
    pub can_undo: bool,
    /// Who has done it.
    pub last_author: Option<String>,
    /// Whether there is one to be done again.
    pub can_redo: bool,
}

impl Project {
    /// A picture with its objects, all at one moment.
    ///
    /// # Errors
    /// There is no such picture, or the file of the project is damaged.
    pub fn opened(&self, picture: PictureId) -> Result<Opened> {
        self.read(|transaction| {
            let picture = Picture::find(transaction, picture)?;
            let (last_author, can_redo) = steps(transaction, picture.owner())?;
            Ok(Opened {
                objects: Object::all(transaction, picture.id)?,
                picture,
                can_undo: last_author.is_some(),
                last_author,
                can_redo,
            })
        })
    }
}
