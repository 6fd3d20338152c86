//! Classes as formats number them.

use std::collections::HashMap;

use samara_image::one_line;

use crate::Result;
use crate::error::ProjectError;
use crate::ids::ClassId;
use crate::project::Project;

/// What objects without a class are called where a format has a class for each.
pub(crate) const NO_CLASS: &str = "object";

/// Names of classes in the order of their numbers.
#[derive(Default)]
pub(super) struct Catalogue {
    pub(super) labels: Vec<String>,
    numbers: HashMap<ClassId, usize>,
    unnamed: Option<usize>,
}

impl Catalogue {
    fn number(&mut self, label: &str) -> usize {
        let known = self.labels.iter().position(|other| other == label);
        known.unwrap_or_else(|| {
            self.labels.push(label.to_owned());
            self.labels.len() - 1
        })
    }

    pub(super) fn read(&mut self, project: &Project) -> Result<()> {
        for class in project.classes()? {
            let number = self.number(&one_line(&class.name));
            self.numbers.insert(class.id, number);
        }
        Ok(())
    }

    pub(super) fn of(&mut self, class: Option<ClassId>, project: &Project) -> Result<usize> {
        let Some(class) = class else {
            let number = self.number(NO_CLASS);
            return Ok(*self.unnamed.get_or_insert(number));
        };
        if !self.numbers.contains_key(&class) {
            // Made meanwhile.
            self.read(project)?;
        }
        let known = self.numbers.get(&class).copied();
        known.ok_or(ProjectError::UnknownClass(class))
    }
}
