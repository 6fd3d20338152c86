//! Attention maps over a picture, as pictures and as files: where the embedded model's mask decoder
//! looks while it answers a click, and, given the self-attention of a vision transformer, its rollout.
//!
//! `cargo run --release --example attention -- docs/coffee.png 290,150 OUT [VIT.safetensors]`
//!
//! `examples/attention` says what comes out, and how the attention of a transformer gets into a file.

use std::error::Error;
use std::fs;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use samara::image::{Overlay, Rgb, RgbImage, montage, resize_bilinear, save_image, write_atomic};
use samara::{
    DeviceKind, HeadFusion, Limits, OriginalPx, Prompt, Segmenter, TokenAttention, read_image,
    rollout,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A row-major map with its name.
struct Map {
    name: String,
    width: usize,
    height: usize,
    values: Vec<f32>,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (input, click, out, vit) = match &arguments[..] {
        [input, click, out] => (input, click, out, None),
        [input, click, out, vit] => (input, click, out, Some(vit)),
        _ => return Err("usage: attention INPUT X,Y OUT [VIT.safetensors]".into()),
    };
    let (x, y) = click.split_once(',').ok_or("the click is X,Y")?;
    let click = OriginalPx::new(x.parse()?, y.parse()?);
    let photo = read_image(input, &Limits::default())?;
    let out = Path::new(out);
    fs::create_dir_all(out)?;

    let embedding = Segmenter::embedded(DeviceKind::Cpu)?.embed(&photo)?;
    let attention = embedding.token_attention(&Prompt::point(click.x, click.y))?;
    let (maps, columns) = decoder_maps(&attention);
    save(
        &out.join("lite"),
        &maps,
        |map| map.name.contains("/mean/"),
        &photo,
        click,
        columns,
    )?;

    if let Some(vit) = vit {
        let maps = rollout_maps(&fs::read(vit)?, &photo, click)?;
        save(
            &out.join("vit"),
            &maps,
            |map| map.name.starts_with("rollout/"),
            &photo,
            click,
            3,
        )?;
    }
    Ok(())
}

/// Every map of the decoder, the means over the heads among them, and the number of tokens.
fn decoder_maps(attention: &TokenAttention) -> (Vec<Map>, usize) {
    let (width, height) = (attention.width(), attention.height());
    let mut maps = Vec::new();
    for layer in 0..attention.layers() {
        for token in attention.tokens() {
            let mut add = |head: String, values: Vec<f32>| {
                let name = format!("{}/{head}/{token}", attention.layer_name(layer));
                maps.push(Map {
                    name: name.replace(' ', "_"),
                    width,
                    height,
                    values,
                });
            };
            for head in 0..attention.heads() {
                let map = attention.map(layer, head, token);
                add(format!("head {head}"), map.unwrap_or_default().to_vec());
            }
            add(
                "mean".into(),
                attention.mean(layer, token).unwrap_or_default(),
            );
        }
    }
    (maps, attention.tokens().len())
}

/// Rollouts of the class token and of the patch under the click, and what the class token looks at in
/// the last layer, from `layer.N` `[heads, tokens, tokens]` of a file.
fn rollout_maps(file: &[u8], photo: &RgbImage, click: OriginalPx) -> Result<Vec<Map>> {
    let (_, header) = SafeTensors::read_metadata(file)?;
    let facts = header.metadata().clone().unwrap_or_default();
    let fact = |key: &str| -> Result<usize> {
        let value = facts
            .get(key)
            .ok_or_else(|| format!("the metadata has no {key}"))?;
        Ok(value.parse()?)
    };
    let (height, width) = (fact("rows")?, fact("columns")?);
    let file = SafeTensors::deserialize(file)?;
    let mut layers: Vec<Vec<f32>> = Vec::new();
    let mut shape = Vec::new();
    while let Ok(layer) = file.tensor(&format!("layer.{}", layers.len())) {
        shape = layer.shape().to_vec();
        layers.push(floats(&layer)?);
    }
    let [heads, tokens, _] = shape[..] else {
        return Err("layer.0 is no [heads, tokens, tokens]".into());
    };
    if width == 0 || height.checked_mul(width) != tokens.checked_sub(1) {
        return Err(
            format!("{height} × {width} patches and a class token are not {tokens}").into(),
        );
    }
    let cell = |at: f64, pixels: u32, cells: usize| {
        ((at / f64::from(pixels) * cells as f64) as usize).min(cells - 1)
    };
    let column = cell(click.x, photo.width(), width);
    let clicked = 1 + cell(click.y, photo.height(), height) * width + column;

    let mut maps = Vec::new();
    let mut add = |name: String, row: &[f32]| {
        maps.push(Map {
            name,
            width,
            height,
            values: row[1..].to_vec(),
        });
    };
    let slices: Vec<&[f32]> = layers.iter().map(Vec::as_slice).collect();
    for (token, index) in [("class", 0), ("click", clicked)] {
        let fusions = [HeadFusion::Mean, HeadFusion::Max, HeadFusion::Min];
        for (fusion, name) in fusions.into_iter().zip(["mean", "max", "min"]) {
            let seen = rollout(&slices, heads, tokens, fusion)?;
            let row = seen.row(index).ok_or("no such token")?;
            add(format!("rollout/{name}/{token}"), row);
        }
    }
    let last = slices.last().copied().unwrap_or_default();
    for (head, matrix) in last.chunks_exact(tokens * tokens).enumerate() {
        add(format!("last/head_{head}/class"), &matrix[..tokens]);
    }
    Ok(maps)
}

fn floats(tensor: &TensorView<'_>) -> Result<Vec<f32>> {
    if tensor.dtype() != Dtype::F32 {
        return Err(format!("{:?} instead of F32", tensor.dtype()).into());
    }
    let bytes = tensor.data().as_chunks::<4>().0.iter();
    Ok(bytes.map(|b| f32::from_le_bytes(*b)).collect())
}

/// Writes all maps to `PATH.safetensors`, and those that are to be shown over the photo to `PATH.jpg`.
fn save(
    path: &Path,
    maps: &[Map],
    shown: impl Fn(&Map) -> bool,
    photo: &RgbImage,
    click: OriginalPx,
    columns: usize,
) -> Result<()> {
    let bytes: Vec<Vec<u8>> = maps
        .iter()
        .map(|map| map.values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views = maps.iter().zip(&bytes).map(|(map, bytes)| {
        let view = TensorView::new(Dtype::F32, vec![map.height, map.width], bytes)?;
        Ok((map.name.clone(), view))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    write_atomic(
        path.with_extension("safetensors"),
        &safetensors::serialize(views, None)?,
    )?;

    let panels = maps.iter().filter(|map| shown(map)).map(|map| {
        let heat = heat(map, photo);
        let label = map.name.replace(['/', '_'], " ");
        let drawn = Overlay::new(&heat).label(label).point(click, true).render();
        resize_bilinear(&drawn, drawn.width() / 2, drawn.height() / 2)
    });
    let panels: Vec<RgbImage> = panels.collect();
    save_image(path.with_extension("jpg"), &montage(&panels, columns))?;
    Ok(())
}

/// From little to much.
const RAMP: [[f32; 3]; 4] = [
    [10.0, 10.0, 50.0],
    [130.0, 20.0, 120.0],
    [240.0, 90.0, 40.0],
    [255.0, 245.0, 130.0],
];

/// The map over the photo. Colours go from the smallest value to that which one cell in a hundred
/// exceeds.
fn heat(map: &Map, photo: &RgbImage) -> RgbImage {
    let mut sorted = map.values.clone();
    sorted.sort_by(f32::total_cmp);
    let least = sorted.first().copied().unwrap_or(0.0);
    let most = sorted.get(sorted.len() * 99 / 100).copied().unwrap_or(1.0);
    let range = (most - least).max(f32::MIN_POSITIVE);
    let cells = RgbImage::from_fn(map.width as u32, map.height as u32, |x, y| {
        let value = map.values[y as usize * map.width + x as usize];
        let at = ((value - least) / range).clamp(0.0, 1.0) * (RAMP.len() - 1) as f32;
        let step = (at as usize).min(RAMP.len() - 2);
        let share = at - step as f32;
        Rgb([0, 1, 2].map(|c| {
            let (from, to) = (RAMP[step][c], RAMP[step + 1][c]);
            (from + share * (to - from)) as u8
        }))
    });
    let mut heat = resize_bilinear(&cells, photo.width(), photo.height());
    for (heat, photo) in heat.pixels_mut().zip(photo.pixels()) {
        heat.0 =
            [0, 1, 2].map(|c| ((3 * u16::from(heat.0[c]) + 2 * u16::from(photo.0[c])) / 5) as u8);
    }
    heat
}
