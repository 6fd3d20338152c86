//! The report as one page without scripts; pictures and charts are inside.

use std::fmt::Write;

use super::base64::encode;
use super::chart::{clicks_curve, histogram, reliability_diagram};
use super::error::EvalError;
use super::outcome::Case;
use super::report::{DataSetReport, Report};
use super::summary::METRICS;
use crate::plot::DrawError;

/// How pages look.
pub(crate) const STYLE: &str = "\
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

impl Report {
    /// The report as a page.
    ///
    /// # Errors
    /// A chart could not be drawn.
    pub fn to_html(&self) -> Result<String, EvalError> {
        let model = escape(&self.model.model);
        let mut page = format!(
            "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>\
             <meta name='viewport' content='width=device-width'>\
             <title>Evaluation of {model}</title><style>{STYLE}</style></head><body>\n\
             <h1>Evaluation of {model}</h1>\
             <p class='quiet'>{}, split {}, on {}, {:.0} s. Weights {}</p>\n",
            escape(&self.model.architecture),
            escape(&self.split),
            escape(&self.model.device),
            self.seconds,
            escape(&self.model.fingerprint)
        );
        page += &self.table();
        for note in &self.notes {
            let _ = writeln!(page, "<p class='quiet'>{}</p>", escape(note));
        }
        for set in &self.data_sets {
            page += &section(set).map_err(|e| EvalError::Chart(e.to_string()))?;
        }
        Ok(page + "</body></html>\n")
    }

    fn table(&self) -> String {
        let columns = self.columns();
        let mut html = String::from("<div class='scroll'><table><thead><tr><th></th>");
        for (title, _) in &columns {
            let _ = write!(html, "<th>{}</th>", escape(title));
        }
        html += "</tr></thead><tbody>\n";
        for (key, label, unit) in METRICS {
            if columns
                .iter()
                .all(|(_, figures)| !figures.contains_key(key))
            {
                continue;
            }
            let _ = write!(html, "<tr><th>{label}</th>");
            for (_, figures) in &columns {
                match figures.get(key) {
                    Some(f) => {
                        let [value, low, high] = [f.value, f.low, f.high].map(|v| unit.show(v));
                        let _ = write!(html, "<td>{value} <small>{low}–{high}</small></td>");
                    }
                    None => html += "<td></td>",
                }
            }
            html += "</tr>\n";
        }
        html + "</tbody></table></div>\n"
    }
}

fn section(set: &DataSetReport) -> Result<String, DrawError> {
    let mut html = format!(
        "<h2>{}</h2><p class='quiet'>{} images, {} objects, {} too small; left out: {}. \
         {:.1} ms a prompt.</p>\n<div class='row'><figure>{}<figcaption>mIoU by number of clicks\
         </figcaption></figure><figure>{}<figcaption>Objects by IoU</figcaption></figure>\
         <figure>{}<figcaption>Predicted and true IoU of the first click’s candidates:\
         <span class='key' style='background:#d9730d'></span>raw",
        escape(&set.name),
        set.images,
        set.objects,
        set.too_small,
        escape(&set.skipped_because),
        set.ms_per_prompt,
        clicks_curve(&set.miou_by_clicks)?,
        histogram("IoU after the first click", &set.iou_histogram)?,
        reliability_diagram(&set.reliability, set.reliability_calibrated.as_deref())?,
    );
    if set.reliability_calibrated.is_some() {
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
pub(crate) fn escape(text: &str) -> String {
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
    use super::super::report::tests::report;

    #[test]
    fn the_page_holds_everything_and_escapes_names() {
        let page = report().to_html().unwrap();
        assert!(page.starts_with("<!doctype html>"));
        assert!(page.contains("src='data:image/jpeg;base64,Zm9vYmFy'"));
        assert!(page.contains("a&lt;b.jpg") && page.contains("&lt;first&gt; &amp; more"));
        assert!(!page.contains("a<b") && !page.contains("<first>"));
        assert_eq!(page.matches("<svg").count(), 6);
        assert!(page.contains("mIoU, 1 click, automatic"));
        for absent in ["<script", "href", "src='http", "src=\"", "url(", "NaN"] {
            assert!(!page.contains(absent), "{absent}");
        }
        let opened = page.matches("<figure>").count();
        assert_eq!(opened, page.matches("</figure>").count());
    }
}
