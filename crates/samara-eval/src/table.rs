//! Tables of figures, for a terminal and for a page.

use std::fmt::Write;

use super::bootstrap::Figure;
use super::figures::{Figures, Group, Unit};
use super::html::escape;

/// Characters of the labels' column, and of every other.
const LABELS: usize = 34;
const CELLS: usize = 23;

/// Figures side by side.
pub(super) struct Table<'a> {
    /// What they are of: data sets, placements.
    pub(super) title: String,
    pub(super) groups: &'static [Group],
    pub(super) columns: Vec<Column<'a>>,
}

/// One column of a table.
pub(super) struct Column<'a> {
    pub(super) title: String,
    pub(super) figures: &'a Figures,
    /// These are differences of figures.
    pub(super) difference: bool,
}

/// A row that some column has.
enum Row<'t> {
    Title(&'static str),
    Figures(&'static str, Vec<Option<(Unit, &'t Figure)>>),
}

impl Table<'_> {
    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        for group in self.groups {
            let mut figures = Vec::new();
            for &(key, label, unit) in group.metrics {
                let columns = self.columns.iter();
                let cells = columns.map(|column| Some((unit, column.figures.get(key)?)));
                let cells: Vec<_> = cells.collect();
                if cells.iter().any(Option::is_some) {
                    figures.push(Row::Figures(label, cells));
                }
            }
            if !figures.is_empty() && !group.title.is_empty() {
                rows.push(Row::Title(group.title));
            }
            rows.append(&mut figures);
        }
        rows
    }

    /// Value, lower and upper end of every cell.
    fn shown(&self, cells: &[Option<(Unit, &Figure)>]) -> Vec<Option<[String; 3]>> {
        let pairs = cells.iter().zip(&self.columns);
        let shown = pairs.map(|(cell, column)| {
            let (unit, figure) = (*cell)?;
            let values = [figure.value, figure.low, figure.high];
            Some(values.map(|value| {
                if column.difference {
                    unit.show_difference(value)
                } else {
                    unit.show(value)
                }
            }))
        });
        shown.collect()
    }

    /// The table as text, intervals in brackets.
    pub(super) fn to_text(&self) -> String {
        let mut text = format!("{:<LABELS$}", "");
        for column in &self.columns {
            let _ = write!(text, "  {:>CELLS$}", shortened(&column.title));
        }
        text.push('\n');
        let mut indent = "";
        for row in self.rows() {
            match row {
                Row::Title(title) => {
                    indent = "  ";
                    text.push_str(title);
                }
                Row::Figures(label, cells) => {
                    let _ = write!(text, "{:<LABELS$}", format!("{indent}{label}"));
                    for cell in self.shown(&cells) {
                        let cell = cell.map_or_else(String::new, |[value, low, high]| {
                            format!("{value} [{low}, {high}]")
                        });
                        let _ = write!(text, "  {cell:>CELLS$}");
                    }
                }
            }
            text.push('\n');
        }
        text
    }

    /// The table as HTML.
    pub(super) fn to_html(&self) -> String {
        let mut html = String::from("<div class='scroll'><table><thead><tr><th></th>");
        for column in &self.columns {
            let _ = write!(html, "<th>{}</th>", escape(&column.title));
        }
        html += "</tr></thead><tbody>\n";
        for row in self.rows() {
            match row {
                Row::Title(title) => {
                    let span = self.columns.len() + 1;
                    let _ = write!(html, "<tr><th class='group' colspan='{span}'>{title}</th>");
                }
                Row::Figures(label, cells) => {
                    let _ = write!(html, "<tr><th>{label}</th>");
                    for cell in self.shown(&cells) {
                        let cell = cell.map_or_else(String::new, |[value, low, high]| {
                            format!("{value} <small>{low} to {high}</small>")
                        });
                        let _ = write!(html, "<td>{cell}</td>");
                    }
                }
            }
            html += "</tr>\n";
        }
        html + "</tbody></table></div>\n"
    }
}

/// A title that fits a column.
fn shortened(title: &str) -> String {
    match title.char_indices().nth(CELLS) {
        Some(_) => title.chars().take(CELLS - 1).chain(['…']).collect(),
        None => title.into(),
    }
}
