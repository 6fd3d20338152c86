//! The file of attention maps: a NumPy array, tensors, or a grey image.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use samara::ImageLimits;
use samara_attention::AttentionMap;
use samara_image::{read_file, read_gray};

use crate::error::{CliError, Result};
use crate::npy;

/// Tokens before those of the cells: a class token and registers.
const MAX_EXTRA_TOKENS: usize = 16;
/// A map and where it lies in its file.
#[derive(Debug)]
pub(crate) struct FileMap {
    pub(crate) map: AttentionMap,
    pub(crate) tensor: Option<String>,
    pub(crate) layer: Option<usize>,
    pub(crate) head: Option<usize>,
}

impl FileMap {
    /// Where the map lies in its file, for titles.
    pub(crate) fn title(&self) -> String {
        place(self.tensor.as_deref(), self.layer, self.head).unwrap_or_else(|| "attention".into())
    }
}

/// `tensor a, layer 2, head 3`, as far as there is such.
fn place(tensor: Option<&str>, layer: Option<usize>, head: Option<usize>) -> Option<String> {
    let places = [
        tensor.map(|name| format!("tensor {name}")),
        layer.map(|i| format!("layer {i}")),
        head.map(|i| format!("head {i}")),
    ];
    let places: Vec<String> = places.into_iter().flatten().collect();
    (!places.is_empty()).then(|| places.join(", "))
}

/// The value of `--grid`: rows × columns, as arrays count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    rows: usize,
    columns: usize,
}

impl FromStr for Grid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |text: &str| {
            text.trim()
                .parse::<usize>()
                .ok()
                .filter(|n| (1..=4096).contains(n))
        };
        text.split_once(['x', '×'])
            .and_then(|(rows, columns)| Some((side(rows)?, side(columns)?)))
            .map(|(rows, columns)| Self { rows, columns })
            .ok_or_else(|| "expected HxW, rows and columns of bins, such as 14x14".into())
    }
}

/// Reads the maps; the kind of file is told by its extension.
pub(crate) fn read(
    path: &Path,
    grid: Option<Grid>,
    tensor: Option<&str>,
    limits: &ImageLimits,
) -> Result<Vec<FileMap>> {
    let extension = path
        .extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase());
    let kind = extension.as_deref();
    if tensor.is_some() && kind != Some("safetensors") {
        return Err(usage(path, "--tensor is for .safetensors files"));
    }
    if grid.is_some() && !matches!(kind, Some("npy" | "safetensors")) {
        return Err(usage(
            path,
            "--grid is for rows of tokens in .npy and .safetensors files",
        ));
    }
    let arrays = match kind {
        Some("npy") => vec![read_npy(path, limits)?],
        Some("safetensors") => read_tensors(path, tensor, limits)?,
        _ => {
            let gray = read_gray(path, limits)?;
            vec![Array {
                tensor: None,
                shape: vec![gray.height as usize, gray.width as usize],
                values: gray.values,
            }]
        }
    };
    let mut maps = Vec::new();
    for array in arrays {
        maps.extend(array.maps(path, grid)?);
    }
    Ok(maps)
}

fn failed(path: &Path, why: impl Display) -> CliError {
    CliError::failed(format!("{}: {why}", path.display()))
}

fn usage(path: &Path, why: impl Display) -> CliError {
    CliError::usage(format!("{}: {why}", path.display()))
}

/// Values in C order.
struct Array {
    tensor: Option<String>,
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Array {
    fn maps(&self, path: &Path, grid: Option<Grid>) -> Result<Vec<FileMap>> {
        let of = self
            .tensor
            .as_ref()
            .map_or(String::new(), |t| format!("tensor {t}: "));
        let refuse = |why: String| failed(path, format!("{of}{why}"));
        let shape = &self.shape;
        let (leading, cells, skip) = match (grid, &shape[..]) {
            (Some(grid), [leading @ .., tokens]) if leading.len() <= 2 => {
                let cells = grid.rows * grid.columns;
                let extra = tokens.checked_sub(cells).filter(|&n| n <= MAX_EXTRA_TOKENS);
                let extra = extra.ok_or_else(|| {
                    refuse(format!(
                        "rows of {tokens} tokens (shape {shape:?}) do not fit --grid {}x{}: {cells} \
                         cells and at most {MAX_EXTRA_TOKENS} class and register tokens before them",
                        grid.rows, grid.columns
                    ))
                })?;
                (leading, [grid.rows, grid.columns], extra)
            }
            (None, [leading @ .., rows, columns]) if leading.len() <= 2 => {
                (leading, [*rows, *columns], 0)
            }
            (Some(_), _) => {
                let wanted = "[tokens], [heads, tokens] and [layers, heads, tokens] go with --grid";
                return Err(refuse(format!("an array of shape {shape:?}; {wanted}")));
            }
            (None, _) => {
                let wanted = "attention maps are [H, W], [heads, H, W] or [layers, heads, H, W], \
                              and rows of tokens need --grid HxW";
                return Err(refuse(format!("an array of shape {shape:?}; {wanted}")));
            }
        };
        let step = skip + cells[0] * cells[1];
        if self.values.is_empty() || step == 0 {
            return Err(refuse(format!("an array of shape {shape:?} holds no map")));
        }
        let heads = leading.last().copied().unwrap_or(1);
        let places = self
            .values
            .chunks_exact(step)
            .enumerate()
            .map(|(i, values)| {
                let layer = (leading.len() == 2).then_some(i / heads);
                let head = (!leading.is_empty()).then_some(i % heads);
                self.map(path, (layer, head), cells, &values[skip..])
            });
        places.collect()
    }

    fn map(
        &self,
        path: &Path,
        (layer, head): (Option<usize>, Option<usize>),
        [rows, columns]: [usize; 2],
        values: &[f32],
    ) -> Result<FileMap> {
        let file = path.display();
        let place = place(self.tensor.as_deref(), layer, head);
        let name = place.map_or_else(|| file.to_string(), |place| format!("{file}, {place}"));
        // Both sides are within the number of values.
        let map = AttentionMap::new(name, columns as u32, rows as u32, values.to_vec())?;
        Ok(FileMap {
            map,
            tensor: self.tensor.clone(),
            layer,
            head,
        })
    }
}

fn read_npy(path: &Path, limits: &ImageLimits) -> Result<Array> {
    let array = npy::read(path, limits).map_err(|e| failed(path, e))?;
    Ok(Array {
        tensor: None,
        shape: array.shape,
        values: array.values,
    })
}

/// One tensor, or all of them in the order of their names.
fn read_tensors(path: &Path, tensor: Option<&str>, limits: &ImageLimits) -> Result<Vec<Array>> {
    let bytes = read_file(path, limits)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| failed(path, e))?;
    let mut tensors: Vec<(&str, TensorView<'_>)> = file.iter().collect();
    tensors.sort_by_key(|&(name, _)| name);
    let names: Vec<&str> = tensors.iter().map(|&(name, _)| name).collect();
    if let Some(wanted) = tensor {
        if !names.contains(&wanted) {
            let there = names.join(", ");
            return Err(failed(
                path,
                format!("--tensor {wanted}: there is no such tensor, only {there}"),
            ));
        }
        tensors.retain(|&(name, _)| name == wanted);
    }
    if tensors.is_empty() {
        return Err(failed(path, "holds no tensor"));
    }
    let arrays = tensors.into_iter().map(|(name, view)| {
        let values = values(&view).ok_or_else(|| {
            let dtype = view.dtype();
            failed(
                path,
                format!("tensor {name}: values of type {dtype:?} are not read"),
            )
        })?;
        Ok(Array {
            tensor: Some(name.to_owned()),
            shape: view.shape().to_vec(),
            values,
        })
    });
    arrays.collect()
}

fn values(view: &TensorView<'_>) -> Option<Vec<f32>> {
    fn each<const N: usize>(bytes: &[u8], of: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<N>().0.iter().map(|&b| of(b)).collect()
    }
    let bytes = view.data();
    Some(match view.dtype() {
        Dtype::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F32 => each(bytes, f32::from_le_bytes),
        Dtype::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
        Dtype::U8 => each(bytes, |b| f32::from(u8::from_le_bytes(b))),
        Dtype::U16 => each(bytes, |b| f32::from(u16::from_le_bytes(b))),
        Dtype::I32 => each(bytes, |b| i32::from_le_bytes(b) as f32),
        Dtype::I64 => each(bytes, |b| i64::from_le_bytes(b) as f32),
        _ => return None,
    })
}
