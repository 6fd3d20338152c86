//! Attention maps over an image, as images and as files: where the embedded model's mask decoder
//! looks while it answers a click, and, given the self-attention of a vision transformer, its rollout.
//!
//! `cargo run --release --example attention -- docs/coffee.png 290,150 OUT [VIT.safetensors]`
//!
//! `examples/attention` says what comes out, and how the attention of a transformer gets into a file.
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use std::error::Error;
use std::fs;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use samara::{DeviceKind, Granularity, ImageLimits, OriginalPx, Prompt, Segmenter, read_image};
use samara_attention::{
    AttentionMap, AttentionOptions, AttentionTargets, HeadFusion, Resampling, TokenAttention,
    rollout,
};
use samara_image::{
    Overlay, RgbImage, heat_map, montage, resize_bilinear, save_image, write_atomic,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (input, click, out, vit) = match &arguments[..] {
        [input, click, out] => (input, click, out, None),
        [input, click, out, vit] => (input, click, out, Some(vit)),
        _ => return Err("usage: attention INPUT X,Y OUT [VIT.safetensors]".into()),
    };
    let (x, y) = click.split_once(',').ok_or("the click is X,Y")?;
    let click = OriginalPx::new(x.parse()?, y.parse()?);
    let photo = read_image(input, &ImageLimits::default())?;
    let out = Path::new(out);
    fs::create_dir_all(out)?;

    let embedding = Segmenter::embedded(DeviceKind::Cpu)?.embed(&photo)?;
    let prompt = Prompt::point(click.x, click.y);
    let attention = TokenAttention::of(&embedding, &prompt)?;
    let targets = AttentionTargets::of(&embedding, &[prompt])?;
    let maps = decoder_maps(&attention)?;
    let shown = |map: &AttentionMap| map.name().contains("/mean/");
    let columns = attention.tokens().len();
    save(&out.join("lite"), &maps, shown, &photo, click, columns)?;
    tell(&maps, shown, &targets)?;

    if let Some(vit) = vit {
        let maps = rollout_maps(&fs::read(vit)?, &photo, click)?;
        let shown = |map: &AttentionMap| map.name().starts_with("rollout/");
        save(&out.join("vit"), &maps, shown, &photo, click, 3)?;
        tell(&maps, shown, &targets)?;
    }
    Ok(())
}

/// Which level of the clicked object every shown map looks at.
fn tell(
    maps: &[AttentionMap],
    shown: impl Fn(&AttentionMap) -> bool,
    targets: &AttentionTargets,
) -> Result<()> {
    // The models saw squares; what is left of them covers the image.
    let options = AttentionOptions {
        stretch: true,
        ..AttentionOptions::default()
    };
    for map in maps.iter().filter(|map| shown(map)) {
        for found in targets.analyse(map, &options)? {
            let level = found.level.map(Granularity::name);
            let why = found.undecided.map(|why| format!("undecided: {why}"));
            let correlation = found.candidates[found.best].measures.correlation;
            println!(
                "{:<22} {:<16} correlation {:.2}, margin {:.2}",
                map.name(),
                level.map_or(why.unwrap_or_default(), str::to_owned),
                correlation.unwrap_or(f64::NAN),
                found.margin
            );
        }
    }
    Ok(())
}

/// Every map of the decoder, the means over the heads among them.
fn decoder_maps(attention: &TokenAttention) -> Result<Vec<AttentionMap>> {
    let (width, height) = (attention.width() as u32, attention.height() as u32);
    let mut maps = Vec::new();
    for layer in 0..attention.layers() {
        for token in attention.tokens() {
            let mut add = |head: String, values: Vec<f32>| -> Result<()> {
                let name = format!("{}/{head}/{token}", attention.layer_name(layer));
                let name = name.replace(' ', "_");
                maps.push(AttentionMap::new(name, width, height, values)?);
                Ok(())
            };
            for head in 0..attention.heads() {
                let map = attention.map(layer, head, token);
                add(format!("head {head}"), map.unwrap_or_default().to_vec())?;
            }
            let mean = attention.mean(layer, token);
            add("mean".into(), mean.unwrap_or_default())?;
        }
    }
    Ok(maps)
}

/// Rollouts of the class token and of the patch under the click, and what the class token looks at in
/// the last layer, from `layer.N` `[heads, tokens, tokens]` of a file.
fn rollout_maps(file: &[u8], photo: &RgbImage, click: OriginalPx) -> Result<Vec<AttentionMap>> {
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
    let (columns, rows) = (width as u32, height as u32);
    let mut add = |name: String, row: &[f32]| -> Result<()> {
        let values = row[1..].to_vec();
        maps.push(AttentionMap::new(name, columns, rows, values)?);
        Ok(())
    };
    let slices: Vec<&[f32]> = layers.iter().map(Vec::as_slice).collect();
    for (token, index) in [("class", 0), ("click", clicked)] {
        let fusions = [HeadFusion::Mean, HeadFusion::Max, HeadFusion::Min];
        for (fusion, name) in fusions.into_iter().zip(["mean", "max", "min"]) {
            let seen = rollout(&slices, heads, tokens, fusion)?;
            let row = seen.row(index).ok_or("no such token")?;
            add(format!("rollout/{name}/{token}"), row)?;
        }
    }
    let last = slices.last().copied().unwrap_or_default();
    for (head, matrix) in last.chunks_exact(tokens * tokens).enumerate() {
        add(format!("last/head_{head}/class"), &matrix[..tokens])?;
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
    maps: &[AttentionMap],
    shown: impl Fn(&AttentionMap) -> bool,
    photo: &RgbImage,
    click: OriginalPx,
    columns: usize,
) -> Result<()> {
    let bytes: Vec<Vec<u8>> = maps
        .iter()
        .map(|map| map.values().iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views = maps.iter().zip(&bytes).map(|(map, bytes)| {
        let shape = vec![map.height() as usize, map.width() as usize];
        Ok((map.name(), TensorView::new(Dtype::F32, shape, bytes)?))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    write_atomic(
        path.with_extension("safetensors"),
        &safetensors::serialize(views, None)?,
    )?;

    let panels = maps.iter().filter(|map| shown(map)).map(|map| {
        let heat = heat_map(
            photo,
            &map.resized(photo.width(), photo.height(), Resampling::Auto),
        );
        let label = map.name().replace(['/', '_'], " ");
        let drawn = Overlay::new(&heat).label(label).point(click, true).render();
        resize_bilinear(&drawn, drawn.width() / 2, drawn.height() / 2)
    });
    let panels: Vec<RgbImage> = panels.collect();
    save_image(path.with_extension("jpg"), &montage(&panels, columns))?;
    Ok(())
}
