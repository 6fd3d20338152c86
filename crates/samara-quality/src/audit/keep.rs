//! COCO annotations without some of them, everything else byte for byte as it was.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use samara_image::write_atomic;
use serde::Deserialize;

use super::AnnotationQuality;
use samara_data::{CocoId, DataError, DataSet};

use crate::Result;

#[derive(Deserialize)]
struct Key {
    id: CocoId,
    image_id: CocoId,
}

/// Writes the annotations of `data` without the `suspects` to `out`, and gives the numbers of those
/// that were kept and left out. Everything else in the file stays as it is, to the byte.
///
/// # Errors
/// The data set has label maps and no file of annotations, or a file cannot be read or written.
pub fn keep_others(
    data: &DataSet,
    suspects: &[&AnnotationQuality],
    out: &Path,
) -> Result<(usize, usize)> {
    let refuse = |path: &Path, what: String| DataError::DataSet {
        path: path.to_owned(),
        what,
    };
    let Some(path) = &data.annotations else {
        let what = "label maps have no file of annotations that could be written without some";
        return Err(refuse(&data.root, what.to_owned()).into());
    };
    let file =
        std::fs::read(path).map_err(|error| refuse(path, format!("cannot be read: {error}")))?;
    let spans = annotation_spans(&file)
        .ok_or_else(|| refuse(path, "its annotations are not found".to_owned()))?;
    let dropped: HashSet<(u64, u64)> = suspects.iter().map(|q| (q.image, q.annotation)).collect();
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else {
        write_atomic(out, &file).map_err(samara::Error::from)?;
        return Ok((0, 0));
    };
    let mut known = HashSet::new();
    for (i, span) in spans.iter().enumerate() {
        let key: Key = serde_json::from_slice(&file[span.clone()])
            .map_err(|error| refuse(path, format!("annotation {i}: {error}")))?;
        let key = (key.image_id.0, key.id.0);
        if !known.insert(key) && dropped.contains(&key) {
            let what = format!("two annotations of image {} have the id {}", key.0, key.1);
            return Err(refuse(path, what).into());
        }
    }
    let mut text = file[..first.start].to_vec();
    let mut kept = 0;
    for (i, span) in spans.iter().enumerate() {
        let annotation = &file[span.clone()];
        let key: Key = serde_json::from_slice(annotation)
            .map_err(|error| refuse(path, format!("annotation {i}: {error}")))?;
        if dropped.contains(&(key.image_id.0, key.id.0)) {
            continue;
        }
        if kept > 0 {
            // The comma and the line break as they stood before this annotation.
            text.extend(&file[spans[i - 1].end..span.start]);
        }
        text.extend(annotation);
        kept += 1;
    }
    text.extend(&file[last.end..]);
    write_atomic(out, &text).map_err(samara::Error::from)?;
    Ok((kept, spans.len() - kept))
}

/// Where each element of the outermost `annotations` stands, in JSON that is known to be good.
fn annotation_spans(file: &[u8]) -> Option<Vec<Range<usize>>> {
    let mut at = after_space(file, 0);
    if file.get(at) != Some(&b'{') {
        return None;
    }
    loop {
        // At the brace or the comma before a key.
        let key = after_space(file, at + 1);
        if file.get(key) == Some(&b'}') {
            return Some(Vec::new());
        }
        let end = after_value(file, key)?;
        let colon = after_space(file, end);
        let value = after_space(file, colon + 1);
        if &file[key..end] == b"\"annotations\"" {
            return elements(file, value);
        }
        at = after_space(file, after_value(file, value)?);
        match file.get(at)? {
            b',' => {}
            b'}' => return Some(Vec::new()),
            _ => return None,
        }
    }
}

fn elements(file: &[u8], array: usize) -> Option<Vec<Range<usize>>> {
    if file.get(array) != Some(&b'[') {
        return None;
    }
    let mut spans = Vec::new();
    let mut at = array;
    loop {
        let start = after_space(file, at + 1);
        if file.get(start) == Some(&b']') {
            return Some(spans);
        }
        let end = after_value(file, start)?;
        spans.push(start..end);
        at = after_space(file, end);
        match file.get(at)? {
            b',' => {}
            b']' => return Some(spans),
            _ => return None,
        }
    }
}

fn after_space(file: &[u8], at: usize) -> usize {
    let rest = file.get(at..).unwrap_or_default();
    let space = rest.iter().take_while(|b| b.is_ascii_whitespace());
    at + space.count()
}

/// The position behind the value that begins here.
fn after_value(file: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = start;
    loop {
        match *file.get(at)? {
            b'"' => {
                at += 1;
                while *file.get(at)? != b'"' {
                    at += if file[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            _ if depth > 0 => at += 1,
            _ => {
                // A number, true, false or null.
                let rest = file.get(at..)?;
                let ends = |b: &u8| matches!(b, b',' | b'}' | b']') || b.is_ascii_whitespace();
                at += rest.iter().position(ends).unwrap_or(rest.len());
            }
        }
        if depth == 0 {
            return (at > start).then_some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_found_whatever_stands_around_them() {
        let of = |text: &str| -> Vec<String> {
            let spans = annotation_spans(text.as_bytes()).unwrap();
            spans.into_iter().map(|s| text[s].to_owned()).collect()
        };
        let text = r#" { "info" : {"annotations": [1], "a": "}\"]"}, "n": -1.5e3 ,"b":null,
            "annotations" : [ {"id": 1, "x": [[2, {"y": "]"}]]} ,{"id":2}
            ], "images": [] } "#;
        assert_eq!(
            of(text),
            [r#"{"id": 1, "x": [[2, {"y": "]"}]]}"#, r#"{"id":2}"#]
        );
        assert!(of("{}").is_empty() && of(r#"{"images":[]}"#).is_empty());
        assert!(of(r#"{"annotations":[ ]}"#).is_empty());
        for bad in [
            "",
            "[]",
            r#"{"annotations":[{"#,
            r#"{"annotations":3}"#,
            r#"{"a"#,
        ] {
            assert_eq!(annotation_spans(bad.as_bytes()), None, "{bad}");
        }
    }
}
