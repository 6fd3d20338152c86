//! Classes: what objects are called.

use rusqlite::{OptionalExtension, Row, Transaction};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::ProjectError;
use crate::failure::{Failure, found};
use crate::ids::ClassId;
use crate::project::Project;

/// What objects are called, and the colour in which they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Class {
    /// Which.
    pub id: ClassId,
    /// Its name, of which there is one.
    pub name: String,
    /// `#rrggbb`.
    pub colour: String,
}

impl Class {
    fn of_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: ClassId(row.get(0)?),
            name: row.get(1)?,
            colour: row.get(2)?,
        })
    }
}

/// Most letters of a name.
const MOST_LETTERS: usize = 200;

fn check(
    transaction: &Transaction<'_>,
    id: Option<ClassId>,
    name: &str,
    colour: &str,
) -> Result<(), Failure> {
    let is_plain = name.trim() == name && !name.is_empty() && !name.chars().any(char::is_control);
    if !is_plain || name.chars().count() > MOST_LETTERS {
        return Err(ProjectError::Name(name.to_owned()).into());
    }
    let digits = colour.strip_prefix('#').filter(|digits| digits.len() == 6);
    if !digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit())) {
        return Err(ProjectError::Colour(colour.to_owned()).into());
    }
    let same = "SELECT count(*) FROM class WHERE name = ?1 AND id IS NOT ?2 AND NOT is_removed";
    let same: i64 = transaction.query_row(same, (name, id.map(|id| id.0)), |row| row.get(0))?;
    if same > 0 {
        return Err(ProjectError::SameName(name.to_owned()).into());
    }
    Ok(())
}

impl Project {
    /// All classes, in their order.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn classes(&self) -> Result<Vec<Class>> {
        self.read(|transaction| {
            let all =
                "SELECT id, name, colour FROM class WHERE NOT is_removed ORDER BY position, id";
            let mut all = transaction.prepare_cached(all)?;
            let classes = all.query_map([], Class::of_row)?;
            Ok(classes.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// A new class, the last of all; one of this name that was removed comes back.
    ///
    /// # Errors
    /// Another has the name, or the colour is none.
    pub fn add_class(&self, name: &str, colour: &str) -> Result<ClassId> {
        self.write(|transaction| {
            check(transaction, None, name, colour)?;
            let again =
                "SELECT id FROM class WHERE name = ?1 AND is_removed ORDER BY id DESC LIMIT 1";
            let again = transaction.query_row(again, [name], |row| row.get(0));
            if let Some(id) = again.optional()? {
                let bring = "UPDATE class SET is_removed = 0, colour = ?2,
                             position = (SELECT max(position) + 1 FROM class) WHERE id = ?1";
                transaction.execute(bring, (id, colour))?;
                return Ok(ClassId(id));
            }
            let add = "INSERT INTO class (name, colour, position)
                       VALUES (?1, ?2, (SELECT coalesce(max(position), 0) + 1 FROM class))";
            transaction.execute(add, (name, colour))?;
            Ok(ClassId(transaction.last_insert_rowid()))
        })
    }

    /// Gives a class another name and colour.
    ///
    /// # Errors
    /// There is no such class, another has the name, or the colour is none.
    pub fn change_class(&self, class: &Class) -> Result<()> {
        self.write(|transaction| {
            find(transaction, class.id)?;
            check(transaction, Some(class.id), &class.name, &class.colour)?;
            let change = "UPDATE class SET name = ?2, colour = ?3 WHERE id = ?1";
            transaction.execute(change, (class.id.0, &class.name, &class.colour))?;
            Ok(())
        })
    }

    /// Takes a class away that no object has. It comes back with an object that had it, when that is undone.
    ///
    /// # Errors
    /// There is no such class, or objects have it.
    pub fn remove_class(&self, class: ClassId) -> Result<()> {
        self.write(|transaction| {
            let name = find(transaction, class)?;
            let count = "SELECT count(*) FROM object WHERE class = ?1";
            let objects: u64 = transaction.query_row(count, [class.0], |row| row.get(0))?;
            if objects > 0 {
                return Err(ProjectError::InUse { name, objects }.into());
            }
            transaction.execute("UPDATE class SET is_removed = 1 WHERE id = ?1", [class.0])?;
            Ok(())
        })
    }
}

/// Brings a class back that was removed, under another name if its own was taken.
pub(crate) fn bring_back(transaction: &Transaction<'_>, class: ClassId) -> Result<(), Failure> {
    let removed = "SELECT name FROM class WHERE id = ?1 AND is_removed";
    let removed = transaction.query_row(removed, [class.0], |row| row.get(0));
    let Some(own) = removed.optional()? else {
        return Ok(());
    };
    let mut name: String = own;
    let taken = "SELECT EXISTS (SELECT 1 FROM class WHERE name = ?1 AND NOT is_removed)";
    while transaction.query_row(taken, [&name], |row| row.get(0))? {
        name.push('\'');
    }
    let bring = "UPDATE class SET is_removed = 0, name = ?2 WHERE id = ?1";
    transaction.execute(bring, (class.0, name))?;
    Ok(())
}

/// The name of a class, which must be there.
pub(crate) fn find(transaction: &Transaction<'_>, class: ClassId) -> Result<String, Failure> {
    let find = "SELECT name FROM class WHERE id = ?1 AND NOT is_removed";
    let row = transaction.query_row(find, [class.0], |row| row.get(0));
    found(row, || ProjectError::UnknownClass(class))
}
