//! An audit as text and as a page.

use std::fmt::Write;

use super::{AnnotationQuality, Audit, Suspect};
use samara_eval::EvalError;
use samara_image::one_line;

use crate::Result;
use samara_eval::page::{STYLE, encode_base64, escape, histogram};

/// Bars of the histogram.
const BARS: usize = 20;
/// An annotated box that agrees less is worth a word.
const BOX_AGREES: f64 = 0.9;

impl Audit {
    /// What was assessed and what was skipped, in one line.
    pub fn outline(&self) -> String {
        let other = |count: usize, what: &str| match count {
            0 => String::new(),
            count => format!(", {count} {what} not assessed"),
        };
        let crowds = other(self.crowds, "regions of many objects");
        let small = other(self.too_small, "too small");
        format!(
            "{}: {} images, {} annotations, {} of them duplicates{crowds}{small}; skipped: {}",
            self.name,
            self.images,
            self.annotations.len(),
            self.duplicates(),
            self.skipped
        )
    }

    /// Number of annotations that another one repeats.
    pub fn duplicates(&self) -> usize {
        let annotations = self.annotations.iter();
        annotations.filter(|q| q.duplicate_of.is_some()).count()
    }

    /// The outline and a table of the worst, for a terminal.
    pub fn to_text(&self, worst: usize) -> String {
        let shown = &self.annotations[..worst.min(self.annotations.len())];
        let mut text = format!("{}\n{}\n", self.outline(), self.source);
        text += "estimate  alignment  predicted  stability      area  image / annotation\n";
        for q in shown {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:>8.3}  {:>9.3}  {:>9.3}  {:>9.3}  {:>8}  {} / {}{}",
                q.estimate,
                q.alignment_iou,
                q.predicted_iou,
                q.stability,
                q.area,
                one_line(file_name(&q.file)),
                q.annotation,
                one_line(&remarks(q))
            );
        }
        text
    }

    /// A page with the distribution of the estimates and the worst annotations.
    ///
    /// # Errors
    /// The chart could not be drawn.
    pub fn to_html(&self, model: &str) -> Result<String> {
        let mut counts = [0; BARS];
        for q in &self.annotations {
            let bar = (f64::from(q.estimate) * BARS as f64) as usize;
            counts[bar.min(BARS - 1)] += 1;
        }
        let chart = histogram("estimated IoU", &counts);
        let chart = chart.map_err(|e| EvalError::Chart(e.to_string()))?;
        let name = escape(&self.name);
        let mut page = format!(
            "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>\
             <meta name='viewport' content='width=device-width'>\
             <title>Annotations of {name}</title><style>{STYLE}</style></head><body>\n\
             <h1>Annotations of {name}</h1><p class='quiet'>{}</p>\
             <p class='quiet'>{}, {}.</p>\n\
             <div class='row'><figure>{chart}<figcaption>Annotations by estimated IoU\
             </figcaption></figure></div>\n",
            escape(&self.outline()),
            escape(model),
            self.source,
        );
        if !self.worst.is_empty() {
            page += "<h2>Worst first<span class='key' style='background:#ffcd1e'></span>annotated\
                     <span class='key' style='background:#2680eb'></span>as the model would draw it\
                     </h2>\n<div class='row cases'>";
            page.extend(self.worst.iter().map(figure));
            page += "</div>\n";
        }
        Ok(page + "</body></html>\n")
    }
}

fn figure(suspect: &Suspect) -> String {
    let Suspect { quality: q, jpeg } = suspect;
    let file = escape(file_name(&q.file));
    format!(
        "<figure><img alt='annotation {0} of {file}' src='data:image/jpeg;base64,{1}'>\
         <figcaption>estimated IoU {2:.2}, alignment {3:.2}<br>{file}, annotation {0}{4}\
         </figcaption></figure>",
        q.annotation,
        encode_base64(jpeg),
        q.estimate,
        q.alignment_iou,
        escape(&remarks(q))
    )
}

/// The category and what is wrong, with commas before them.
fn remarks(q: &AnnotationQuality) -> String {
    let category = q.category.as_ref().map(|name| format!(", {name}"));
    let duplicate = q
        .duplicate_of
        .map(|other| format!(", same mask as {other}"));
    let agreement = q.box_agreement.filter(|&iou| iou < BOX_AGREES);
    let agreement = agreement.map(|iou| format!(", its box agrees by {iou:.2}"));
    [category, duplicate, agreement]
        .into_iter()
        .flatten()
        .collect()
}

fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or_default()
}
