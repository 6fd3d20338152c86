//! The tables of a report, and the report as text.

use std::fmt::Write;

use samara::Zoom;

use super::figures::{FIRST_CLICK, FURTHER_PROMPTS, Figures, PromptFigures};
use super::options::EvalOptions;
use super::report::{ModelReport, Report};
use super::table::{Column, Table};

/// The figures of a data set, or of all of them: of the model, or of both and their difference.
struct Block<'a> {
    title: String,
    versions: Vec<Version<'a>>,
}

/// Figures of the model; or of A, of B and of A − B.
struct Version<'a> {
    title: &'static str,
    figures: &'a PromptFigures,
}

/// The title of differences.
const DIFFERENCE: &str = "A − B";

impl<'a> Block<'a> {
    fn new(
        title: &str,
        figures: &'a PromptFigures,
        other: Option<(&'a PromptFigures, &'a PromptFigures)>,
    ) -> Self {
        let versions = match other {
            None => vec![("", figures)],
            Some((other, difference)) => {
                vec![("A", figures), ("B", other), (DIFFERENCE, difference)]
            }
        };
        let versions = versions.into_iter();
        Self {
            title: title.into(),
            versions: versions
                .map(|(title, figures)| Version { title, figures })
                .collect(),
        }
    }

    /// Columns of all versions.
    fn columns(
        &self,
        figures: impl Fn(&'a PromptFigures) -> Option<&'a Figures>,
    ) -> Vec<Column<'a>> {
        let versions = self.versions.iter();
        let columns = versions.filter_map(|version| {
            Some(Column {
                title: version.title.into(),
                figures: figures(version.figures)?,
                difference: version.title == DIFFERENCE,
            })
        });
        columns.collect()
    }
}

impl Report {
    fn block<'a>(
        &'a self,
        title: &str,
        of_model: impl Fn(&'a ModelReport) -> Option<&'a PromptFigures>,
        difference: Option<&'a PromptFigures>,
    ) -> Option<Block<'a>> {
        let other = self.compared_with.as_ref();
        let other = other.and_then(|other| Some((of_model(other)?, difference?)));
        Some(Block::new(title, of_model(&self.subject)?, other))
    }

    /// Every data set, and their mean.
    fn blocks(&self) -> Vec<Block<'_>> {
        let difference = self.difference.as_ref();
        let sets = self.subject.data_sets.iter().enumerate();
        let mut blocks: Vec<Block<'_>> = sets
            .filter_map(|(i, set)| {
                let difference = difference.and_then(|d| d.data_sets.get(i));
                self.block(
                    &set.name,
                    |model| Some(&model.data_sets.get(i)?.figures),
                    difference.map(|d| &d.figures),
                )
            })
            .collect();
        if blocks.len() > 1 {
            blocks.extend(self.block(
                "mean of sets",
                |model| Some(&model.overall.mean_over_data_sets),
                difference.map(|d| &d.mean_over_data_sets),
            ));
        }
        blocks
    }

    /// The block of all objects alike, where it is another than that of the only data set.
    fn all_objects(&self) -> Option<Block<'_>> {
        if self.subject.data_sets.len() < 2 {
            return None;
        }
        self.block(
            "all objects",
            |model| Some(&model.overall.over_all_objects),
            self.difference.as_ref().map(|d| &d.over_all_objects),
        )
    }

    /// First clicks: a column for every placement, or for both models and their difference.
    pub(super) fn first_click_tables(&self) -> Vec<Table<'_>> {
        let placements = self.options.placements();
        let mut tables = Vec::new();
        for block in self.blocks() {
            let by_placement = placements.iter().map(|placement| {
                let columns = block.columns(|figures| figures.first_click.get(placement));
                (placement, columns)
            });
            if self.compared_with.is_some() {
                tables.extend(by_placement.map(|(placement, columns)| Table {
                    title: format!("{}, {placement}", block.title),
                    groups: FIRST_CLICK,
                    columns,
                }));
            } else {
                let columns = by_placement.flat_map(|(placement, columns)| {
                    let title = placement.to_string();
                    columns.into_iter().map(move |column| Column {
                        title: title.clone(),
                        ..column
                    })
                });
                tables.push(Table {
                    columns: columns.collect(),
                    groups: FIRST_CLICK,
                    title: block.title,
                });
            }
        }
        tables
    }

    /// Further prompts: a column for every data set and for all, or for both models and their
    /// difference.
    pub(super) fn further_tables(&self) -> Vec<Table<'_>> {
        let mut blocks = self.blocks();
        blocks.extend(self.all_objects());
        let titled = blocks.into_iter().map(|block| {
            let columns = block.columns(|figures| Some(&figures.further_prompts));
            (block.title, columns)
        });
        if self.compared_with.is_some() {
            let tables = titled.map(|(title, columns)| Table {
                title,
                groups: FURTHER_PROMPTS,
                columns,
            });
            return tables.collect();
        }
        let columns = titled.flat_map(|(title, columns)| {
            columns.into_iter().map(move |column| Column {
                title: title.clone(),
                ..column
            })
        });
        vec![Table {
            title: String::new(),
            groups: FURTHER_PROMPTS,
            columns: columns.collect(),
        }]
    }

    /// The models, with a letter where there are two.
    pub(super) fn models(&self) -> Vec<(&'static str, &ModelReport)> {
        match &self.compared_with {
            None => vec![("", &self.subject)],
            Some(other) => vec![("A", &self.subject), ("B", other)],
        }
    }

    /// What was asked, in half a line.
    pub(super) fn asked(&self) -> String {
        let EvalOptions { intent, zoom, .. } = self.options;
        let zoom = match zoom {
            Zoom::Off => String::new(),
            zoom => format!(", zoom {zoom}"),
        };
        format!("split {}, intent {intent}{zoom}", self.split)
    }

    /// The report as tables for a terminal; intervals in brackets.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (letter, report) in self.models() {
            let model = &report.model;
            let _ = match letter {
                "" => writeln!(
                    text,
                    "{}, {} in {}, {}",
                    model.model,
                    model.architecture,
                    model.precision,
                    self.asked()
                ),
                _ => writeln!(
                    text,
                    "{letter}: {}, {} in {}",
                    model.model, model.architecture, model.precision
                ),
            };
        }
        if self.compared_with.is_some() {
            let _ = writeln!(text, "{}", self.asked());
        }
        for (letter, report) in self.models() {
            report.write_times(letter, &mut text);
        }
        let first = self.first_click_tables().into_iter();
        let further = self.further_tables().into_iter();
        let tables = first.map(|table| ("First click", table));
        for (heading, table) in tables.chain(further.map(|table| ("Further prompts", table))) {
            let colon = if table.title.is_empty() { "" } else { ": " };
            let _ = writeln!(text, "\n{heading}{colon}{}", table.title);
            text += &table.to_text();
        }
        text.push('\n');
        for note in &self.notes {
            let _ = writeln!(text, "{note}");
        }
        text
    }
}

impl ModelReport {
    /// A line for every data set: its size, and the time it took.
    fn write_times(&self, letter: &str, text: &mut String) {
        let letter = match letter {
            "" => String::new(),
            letter => format!("{letter}, "),
        };
        for set in &self.data_sets {
            let [small, large] = [(set.too_small, "small"), (set.too_large, "large")].map(
                |(count, how)| match count {
                    0 => String::new(),
                    count => format!(", {count} too {how}"),
                },
            );
            let _ = writeln!(
                text,
                "{letter}{}: {} images, {} objects, {:.1} s ({:.0} ms to embed an image, {:.1} ms a \
                 prompt); skipped: {}{small}{large}",
                set.name,
                set.images,
                set.objects,
                set.seconds.total,
                1000.0 * set.seconds.embed / set.images as f64,
                set.ms_per_prompt,
                set.skipped_because,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{comparison, report};

    #[test]
    fn first_clicks_have_a_column_per_placement_and_a_block_per_set() {
        let text = report().to_text();
        let blocks: Vec<&str> = text.split("First click: ").collect();
        assert_eq!(blocks.len(), 4, "{text}");
        assert!(blocks[1].starts_with("<first> & more than fits a column\n"));
        assert!(blocks[3].starts_with("mean of sets\n"));
        let row = |block: &str, begin: &str| {
            let found = block.lines().find(|l| l.starts_with(begin));
            found
                .unwrap_or_else(|| panic!("{begin}: {text}"))
                .to_owned()
        };
        let header = blocks[1].lines().nth(1).unwrap();
        assert_eq!(
            header.split_whitespace().collect::<Vec<_>>(),
            ["center", "human"]
        );
        let chosen = row(blocks[1], "mIoU, chosen mask");
        assert!(
            chosen.contains("70.0 [60.0, 80.0]") && chosen.contains("50.0 ["),
            "{chosen}"
        );
        assert!(row(blocks[3], "mIoU, chosen mask").contains("75.0 ["));
        let best = blocks[1].split("best-matching mask\n").nth(1).unwrap();
        assert!(
            row(best, "  mean absolute error").contains("0.350 [0.100, 0.600]"),
            "{best}"
        );
        for absent in ["NoC", "9 clicks", "match probability", "fitted here"] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
        assert!(text.contains("Fewer than 30 images"), "{text}");
        assert!(
            text.contains("human: deeper pixels more often, 1 on every object."),
            "{text}"
        );
    }

    #[test]
    fn further_prompts_have_a_column_per_set_and_two_for_all() {
        let text = report().to_text();
        let further = text.split("Further prompts\n").nth(1).unwrap();
        let row = further
            .lines()
            .find(|l| l.starts_with("mIoU, box"))
            .unwrap();
        assert_eq!(row.matches('[').count(), 4, "{row}");
        assert!(further.contains("<first> & more than fi…"), "{text}");
        assert!(further.contains("mean of sets") && further.contains("all objects"));
    }

    #[test]
    fn a_comparison_has_both_models_and_their_difference() {
        let text = comparison().to_text();
        assert!(
            text.contains("A: m.pth, sam-vit-b in fp32\nB: b<c.pth, sam-vit-b in fp32\n"),
            "{text}"
        );
        let blocks: Vec<&str> = text.split("First click: ").collect();
        assert_eq!(blocks.len(), 7, "{text}");
        assert!(blocks[1].contains("column, center\n") && blocks[2].contains("column, human\n"));
        let rows: Vec<&str> = blocks[1].lines().collect();
        let header: Vec<&str> = rows[1].split_whitespace().collect();
        assert_eq!(header, ["A", "B", "A", "−", "B"]);
        for cell in [
            "100.0 [100.0, 100.0]",
            "70.0 [60.0, 80.0]",
            "+30.0 [+20.0, +40.0]",
        ] {
            assert!(rows[2].contains(cell), "{cell}: {}", rows[2]);
        }
        assert_eq!(text.matches("Further prompts: ").count(), 4);
        assert!(text.contains("A − B: paired"));
    }
}
