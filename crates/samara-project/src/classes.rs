//! Classes: what objects are called.

use rusqlite::{Row, Transaction};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::ProjectError;
use crate::ids::ClassId;
use crate::project::{Failure, Project, found};

/// What objects are called, and the colour in which they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

fn check(
    transaction: &Transaction<'_>,
    id: Option<ClassId>,
    name: &str,
    colour: &str,
) -> Result<(), Failure> {
    if name.trim() != name || name.is_empty() {
        return Err(ProjectError::Value(format!(
            "the name {name:?} of a class is empty, or has spaces around it"
        ))
        .into());
    }
    let digits = colour.strip_prefix('#').filter(|digits| digits.len() == 6);
    if !digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit())) {
        return Err(ProjectError::Value(format!("{colour:?} is no colour; #rrggbb is one")).into());
    }
    let same = "SELECT count(*) FROM class WHERE name = ?1 AND id IS NOT ?2";
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
            let all = "SELECT id, name, colour FROM class ORDER BY position, id";
            let mut all = transaction.prepare_cached(all)?;
            let classes = all.query_map([], Class::of_row)?;
            Ok(classes.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// A new class, the last of all.
    ///
    /// # Errors
    /// Another has the name, or the colour is none.
    pub fn add_class(&self, name: &str, colour: &str) -> Result<ClassId> {
        self.write(|transaction| {
            check(transaction, None, name, colour)?;
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
}

/// Refuses a class that is not there.
pub(crate) fn find(transaction: &Transaction<'_>, class: ClassId) -> Result<(), Failure> {
    let find = "SELECT 1 FROM class WHERE id = ?1";
    let row = transaction.query_row(find, [class.0], |_| Ok(()));
    found(row, || ProjectError::UnknownClass(class))
}
