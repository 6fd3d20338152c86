//! Classes: what objects are called.

use std::collections::{HashMap, HashSet};

use rusqlite::{OptionalExtension, Row, Transaction};
use samara_image::palette;
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
pub(crate) const MOST_LETTERS: usize = 200;
/// So many colours are looked through for one that no class has.
const COLOURS: usize = 500;

fn check_name(name: &str) -> Result<()> {
    let is_plain = name.trim() == name && !name.is_empty() && !name.chars().any(char::is_control);
    if !is_plain || name.chars().count() > MOST_LETTERS {
        return Err(ProjectError::Name(name.to_owned()));
    }
    Ok(())
}

fn check(
    transaction: &Transaction<'_>,
    id: Option<ClassId>,
    name: &str,
    colour: &str,
) -> Result<(), Failure> {
    check_name(name)?;
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
            let position = next_position(transaction)?;
            put(transaction, again.optional()?, name, colour, position)
        })
    }

    /// The classes of these names, and how many of them are new: in colours that no other has as long as there are some.
    ///
    /// # Errors
    /// A name is none.
    pub(crate) fn classes_of(&self, names: &[&str]) -> Result<(HashMap<String, ClassId>, usize)> {
        self.write(|transaction| {
            let (mut known, mut removed) = (HashMap::new(), HashMap::new());
            let mut colours: HashSet<String> = HashSet::new();
            let all = "SELECT id, name, colour, is_removed FROM class ORDER BY id";
            let mut all = transaction.prepare_cached(all)?;
            let mut rows = all.query([])?;
            while let Some(row) = rows.next()? {
                let Class { id, name, colour } = Class::of_row(row)?;
                if row.get(3)? {
                    removed.insert(name, id.0);
                } else {
                    known.insert(name, id);
                    colours.insert(colour.to_ascii_lowercase());
                }
            }
            let mut position = next_position(transaction)?;
            let mut made = 0;
            for name in names.iter().copied() {
                if known.contains_key(name) {
                    continue;
                }
                check_name(name)?;
                let next = known.len();
                let colour = |i: usize| format!("#{}", hex::encode(palette(i).0));
                let mut some = (next..next + COLOURS).map(colour);
                let free = some.find(|colour| !colours.contains(colour));
                let colour = free.unwrap_or_else(|| colour(next));
                let id = put(transaction, removed.remove(name), name, &colour, position)?;
                colours.insert(colour);
                known.insert(name.to_owned(), id);
                position += 1;
                made += 1;
            }
            Ok((known, made))
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

/// The place after the last class.
fn next_position(transaction: &Transaction<'_>) -> Result<i64, Failure> {
    let next = "SELECT coalesce(max(position), 0) + 1 FROM class";
    Ok(transaction.query_row(next, [], |row| row.get(0))?)
}

/// Adds a class, or brings the one back that was removed.
fn put(
    transaction: &Transaction<'_>,
    removed: Option<i64>,
    name: &str,
    colour: &str,
    position: i64,
) -> Result<ClassId, Failure> {
    if let Some(id) = removed {
        let bring = "UPDATE class SET is_removed = 0, colour = ?2, position = ?3 WHERE id = ?1";
        let mut bring = transaction.prepare_cached(bring)?;
        bring.execute((id, colour, position))?;
        return Ok(ClassId(id));
    }
    let add = "INSERT INTO class (name, colour, position) VALUES (?1, ?2, ?3)";
    let mut add = transaction.prepare_cached(add)?;
    add.execute((name, colour, position))?;
    Ok(ClassId(transaction.last_insert_rowid()))
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
