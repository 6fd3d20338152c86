//! The report as one page without scripts; images and charts are inside.

use std::fmt::Write;

use super::base64::encode;
use super::chart::{clicks_curve, histogram, reliability_diagram};
use super::error::EvalError;
use super::metrics::Bin;
use super::outcome::Case;
use super::report::{DataSetReport, ModelReport, Report};
use super::summary::Reliability;
use crate::plot::DrawError;

/// How pages look.
pub const STYLE: &str = "\
:root{color-scheme:light}\
body{font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;color:#18181b;\
background:#fff;max-width:68rem;margin:2.5rem auto;padding:0 1.25rem}\
h1{font-size:1.7rem;margin:0 0 .25rem}h2{font-size:1.3rem;margin:2.5rem 0 .5rem}\
h3{font-size:1rem;margin:1.5rem 0 .5rem}p{margin:.4rem 0;max-width:46rem}\
.quiet{color:#52525b;font-size:.875rem;overflow-wrap:anywhere}\
.scroll{overflow-x:auto}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:1rem 0}\
th,td{padding:.25rem .9rem .25rem 0;text-align:right;border-bottom:1px solid #e4e4e7;\
white-space:nowrap}\
th:first-child{text-align:left;font-weight:400}thead th{font-weight:600}\
td small{color:#52525b}\
.row{display:grid;grid-template-columns:repeat(auto-fill,minmax(18rem,1fr));gap:1rem}\
.cases{grid-template-columns:repeat(auto-fill,minmax(10rem,1fr))}\
figure{margin:0}figure img{width:100%;border-radius:4px;display:block}\
figcaption{font-size:.8rem;color:#52525b;overflow-wrap:anywhere}\
svg{width:100%;height:auto}\
.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin:0 .3em 0 .8em}";

/// What the tables of an evaluation add to that.
const TABLES: &str = "th.group{padding-top:.9rem;color:#52525b;text-align:left}";

impl Report {
    /// The report as a page.
    ///
    /// # Errors
    /// A chart could not be drawn.
    pub fn to_html(&self) -> Result<String, EvalError> {
        let names = self
            .models()
            .into_iter()
            .map(|(_, report)| &report.model.model);
        let names: Vec<String> = names.map(|name| escape(name)).collect();
        let title = names.join(" and ");
        let mut page = format!(
            "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>\
             <meta name='viewport' content='width=device-width'>\
             <title>Evaluation of {title}</title><style>{STYLE}{TABLES}</style></head><body>\n\
             <h1>Evaluation of {title}</h1>\n"
        );
        for (letter, report) in self.models() {
            page += &about(letter, report);
        }
        let _ = writeln!(page, "<p class='quiet'>{}</p>", escape(&self.asked()));
        for note in &self.notes {
            let _ = writeln!(page, "<p class='quiet'>{}</p>", escape(note));
        }
        for (heading, tables) in [
            ("First click", self.first_click_tables()),
            ("Further prompts", self.further_tables()),
        ] {
            let _ = writeln!(page, "<h2>{heading}</h2>");
            for table in tables {
                if !table.title.is_empty() {
                    let _ = writeln!(page, "<h3>{}</h3>", escape(&table.title));
                }
                page += &table.to_html();
            }
        }
        for (letter, report) in self.models() {
            for set in &report.data_sets {
                page += &section(letter, set).map_err(|e| EvalError::Chart(e.to_string()))?;
            }
        }
        Ok(page + "</body></html>\n")
    }
}

/// A line about a model.
fn about(letter: &str, report: &ModelReport) -> String {
    let model = &report.model;
    let name = match letter {
        "" => String::new(),
        letter => format!("<b>{letter}</b>: {}. ", escape(&model.model)),
    };
    format!(
        "<p class='quiet'>{name}{} in {}, on {}, {:.0} s. Weights {}</p>\n",
        escape(&model.architecture),
        model.precision,
        escape(&model.device),
        report.seconds,
        escape(&model.fingerprint)
    )
}

/// The predicted IoU that the chart shows beside the raw score: the one that was fitted here, or
/// the model's own, where that is another.
fn judged(reliability: &Reliability) -> Option<&[Bin]> {
    let own = (reliability.predicted != reliability.raw).then_some(&reliability.predicted);
    let fitted = reliability.calibrated.as_ref();
    fitted.or(own).map(Vec::as_slice)
}

fn section(letter: &str, set: &DataSetReport) -> Result<String, DrawError> {
    let letter = match letter {
        "" => String::new(),
        letter => format!("{letter}: "),
    };
    let judged = judged(&set.reliability);
    let mut html = format!(
        "<h2>{letter}{}</h2><p class='quiet'>{} images, {} objects, {} too small, {} too large; \
         skipped: {}. {:.1} ms a prompt.</p>\n<div class='row'><figure>{}<figcaption>mIoU by number \
         of clicks</figcaption></figure><figure>{}<figcaption>Objects by IoU</figcaption></figure>\
         <figure>{}<figcaption>Predicted and true IoU of the best-matching mask of every first click:\
         <span class='key' style='background:#d9730d'></span>raw score",
        escape(&set.name),
        set.images,
        set.objects,
        set.too_small,
        set.too_large,
        escape(&set.skipped_because),
        set.ms_per_prompt,
        clicks_curve(&set.miou_by_clicks)?,
        histogram("IoU after the first click", &set.iou_histogram)?,
        reliability_diagram(&set.reliability.raw, judged)?,
    );
    if judged.is_some() {
        html += "<span class='key' style='background:#2680eb'></span>calibrated";
    }
    html += "</figcaption></figure></div>\n";
    for (title, cases) in [("Worst", &set.worst), ("Best", &set.best)] {
        if cases.is_empty() {
            continue;
        }
        let _ = write!(
            html,
            "<h3>{title} first clicks<span class='key' style='background:#ffcd1e'></span>truth\
             <span class='key' style='background:#2680eb'></span>answer</h3>\
             <div class='row cases'>"
        );
        html.extend(cases.iter().map(thumbnail));
        html += "</div>\n";
    }
    Ok(html)
}

fn thumbnail(case: &Case) -> String {
    let file = case.image.rsplit(['/', '\\']).next().unwrap_or_default();
    let caption = format!(
        "IoU {:.2}, predicted {:.2}<br>{}, object {}",
        case.iou,
        case.predicted_iou,
        escape(file),
        case.object
    );
    format!(
        "<figure><img alt='object {} of {}' src='data:image/jpeg;base64,{}'>\
         <figcaption>{caption}</figcaption></figure>",
        case.object,
        escape(file),
        encode(&case.jpeg)
    )
}

/// Text inside a page or an attribute of it.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '\'' => escaped += "&#39;",
            '"' => escaped += "&quot;",
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{comparison, report};

    fn check(page: &str) {
        assert!(page.starts_with("<!doctype html>"));
        assert!(page.contains("src='data:image/jpeg;base64,Zm9vYmFy'"));
        assert!(page.contains("a&lt;b.jpg") && page.contains("&lt;first&gt; &amp; more"));
        assert!(!page.contains("a<b") && !page.contains("<first>") && !page.contains("b<c"));
        for absent in ["<script", "href", "src='http", "src=\"", "url(", "NaN"] {
            assert!(!page.contains(absent), "{absent}");
        }
        for element in ["figure", "tr", "table", "tbody"] {
            let opened = page.matches(&format!("<{element}>")).count();
            assert_eq!(
                opened,
                page.matches(&format!("</{element}>")).count(),
                "{element}"
            );
        }
    }

    #[test]
    fn the_page_holds_everything_and_escapes_names() {
        let page = report().to_html().unwrap();
        check(&page);
        assert_eq!(page.matches("<svg").count(), 6);
        assert_eq!(page.matches("<table").count(), 4);
        for words in [
            "mIoU, chosen mask",
            "<th>center</th><th>human</th>",
            "Further prompts",
        ] {
            assert!(page.contains(words), "{words}");
        }
    }

    #[test]
    fn a_comparison_shows_both_models() {
        let page = comparison().to_html().unwrap();
        check(&page);
        assert_eq!(page.matches("<svg").count(), 12);
        assert!(page.contains("Evaluation of m.pth and b&lt;c.pth"));
        assert!(page.contains("<th>A</th><th>B</th><th>A − B</th>"));
        assert!(page.contains("<td>+30.0 <small>+20.0 to +40.0</small></td>"));
    }
}
