//! The kernels beside what they replace: `cargo bench -p samara-kernels`.
//!
//! Throughputs are in multiply-adds per second, twice of which is the usual FLOP/s; `peak` is what
//! the processor can do.
#![allow(missing_docs, clippy::print_stdout, reason = "a benchmark")]

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use samara_kernels::activation::Activation;
use samara_kernels::attention::{Attention, Bias, Sequences, Tokens};
use samara_kernels::depthwise::Depthwise;
use samara_kernels::feed_forward::FeedForward;
use samara_kernels::gemm::{self, Dense, Epilogue, ForRows, Layer, Matrix, Packed};
use samara_kernels::layer_norm::{Norm, layer_norm};
use samara_kernels::math::gelu_in_place;
use samara_kernels::meter;
use samara_kernels::precision::Precision;
use samara_kernels::two_way::{ImageToTokens, ImageTokens, Projection, TokensToImage};
use samara_kernels::upscale::Upscaling;

fn main() {
    samara_kernels::memory::keep_freed_memory();
    let peak = meter::peak(std::time::Duration::from_millis(300));
    println!("peak: {:.1} G multiply-adds per second", peak / 2e9);
    divan::main();
}

fn values(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| (i * 7919 % 2003) as f32 / 1001.5 - 1.0)
        .collect()
}

/// Rows, inner dimension, columns: the matmuls of ViT-B, those of TinyViT, and a small one.
const MATMULS: [(usize, usize, usize); 10] = [
    (4096, 768, 2304),
    (4096, 768, 768),
    (4096, 768, 3072),
    (4096, 3072, 768),
    (16384, 128, 512),
    (4096, 160, 640),
    (4096, 320, 960),
    (4096, 320, 1280),
    (4096, 1280, 320),
    (7, 256, 2048),
];

#[divan::bench(args = MATMULS)]
fn matmul(bencher: Bencher<'_, '_>, (rows, depth, columns): (usize, usize, usize)) {
    let (a, b) = (values(rows * depth), values(depth * columns));
    let mut out = vec![0.0; rows * columns];
    bencher
        .counter(ItemsCount::new(rows * depth * columns))
        .bench_local(|| {
            gemm::linear(
                &a,
                &b,
                [depth, columns],
                &Epilogue::default(),
                black_box(&mut out),
            );
        });
}

#[divan::bench(args = MATMULS)]
fn matmul_with_bias_and_gelu(
    bencher: Bencher<'_, '_>,
    (rows, depth, columns): (usize, usize, usize),
) {
    let (a, b, bias) = (
        values(rows * depth),
        values(depth * columns),
        values(columns),
    );
    let epilogue = Epilogue {
        bias: Some(&bias),
        activation: Activation::Gelu,
        ..Epilogue::default()
    };
    let mut out = vec![0.0; rows * columns];
    bencher
        .counter(ItemsCount::new(rows * depth * columns))
        .bench_local(|| {
            gemm::linear(&a, &b, [depth, columns], &epilogue, black_box(&mut out));
        });
}

#[divan::bench(args = MATMULS)]
fn matmul_packed_before(bencher: Bencher<'_, '_>, (rows, depth, columns): (usize, usize, usize)) {
    let (a, b) = (values(rows * depth), values(depth * columns));
    let right = Packed::new(Matrix::new(&b, depth, columns));
    let mut out = vec![0.0; rows * columns];
    bencher
        .counter(ItemsCount::new(rows * depth * columns))
        .bench_local(|| {
            let rows = Dense::new(&a, depth);
            gemm::gemm(
                &rows,
                right.right(),
                &Epilogue::default(),
                black_box(&mut out),
            );
        });
}

#[divan::bench(args = MATMULS)]
fn matmul_bf16(bencher: Bencher<'_, '_>, size: (usize, usize, usize)) {
    packed_matmul(bencher, Precision::Bf16, size);
}

#[divan::bench(args = MATMULS)]
fn matmul_int8(bencher: Bencher<'_, '_>, size: (usize, usize, usize)) {
    packed_matmul(bencher, Precision::Int8, size);
}

fn packed_matmul(
    bencher: Bencher<'_, '_>,
    precision: Precision,
    (rows, depth, columns): (usize, usize, usize),
) {
    let (a, b) = (values(rows * depth), values(depth * columns));
    let right = Packed::with_precision(precision, Matrix::new(&b, depth, columns));
    let mut out = vec![0.0; rows * columns];
    bencher
        .counter(ItemsCount::new(rows * depth * columns))
        .bench_local(|| {
            let rows = Dense::new(&a, depth);
            gemm::linear_of_packed(&rows, &right, &Epilogue::default(), black_box(&mut out));
        });
}

/// With fewer multiplications where there are many rows, whose sums are made in the time that counts;
/// throughputs count as many operations as the others do.
#[divan::bench(args = MATMULS)]
fn matmul_packed_for_rows(bencher: Bencher<'_, '_>, size: (usize, usize, usize)) {
    packed_matmul(bencher, Precision::Fp32, size);
}

/// Rows, width: the blocks of ViT-B, and of two stages of TinyViT.
const FEED_FORWARD: [(usize, usize); 3] = [(4096, 768), (4096, 320), (4096, 160)];

#[divan::bench(args = FEED_FORWARD, consts = [true, false])]
fn feed_forward<const FOR_ROWS: bool>(bencher: Bencher<'_, '_>, (rows, width): (usize, usize)) {
    let hidden = 4 * width;
    let (x, weight, bias) = (values(rows * width), values(width * hidden), values(hidden));
    let pack = |inputs, outputs| {
        let matrix = Matrix::new(&weight, inputs, outputs);
        ForRows::new(Packed::new(matrix), if FOR_ROWS { rows } else { 1 })
    };
    let (expand, project) = (pack(width, hidden), pack(hidden, width));
    let layer = |weight, outputs| Layer {
        weight,
        bias: Some(&bias[..outputs]),
    };
    let block = FeedForward {
        norm: Norm {
            gamma: &bias[..width],
            beta: &bias[width..2 * width],
            epsilon: 1e-6,
        },
        expand: layer(expand.right(), hidden),
        activation: Activation::Gelu,
        project: layer(project.right(), width),
    };
    let mut out = vec![0.0; rows * width];
    bencher
        .counter(ItemsCount::new(2 * rows * width * hidden))
        .bench_local(|| block.forward(&x, &x, black_box(&mut out)));
}

/// The crate `gemm`.
#[divan::bench(args = MATMULS)]
#[expect(unsafe_code, reason = "the interface of the crate that is compared")]
fn matmul_of_gemm(bencher: Bencher<'_, '_>, (rows, depth, columns): (usize, usize, usize)) {
    let (a, b) = (values(rows * depth), values(depth * columns));
    let mut out = vec![0.0_f32; rows * columns];
    bencher
        .counter(ItemsCount::new(rows * depth * columns))
        .bench_local(|| {
            let out = black_box(&mut out);
            // SAFETY: the three matrices have the lengths that their sizes and strides say.
            unsafe {
                ::gemm::gemm(
                    rows,
                    columns,
                    depth,
                    out.as_mut_ptr(),
                    1,
                    columns as isize,
                    false,
                    a.as_ptr(),
                    1,
                    depth as isize,
                    b.as_ptr(),
                    1,
                    columns as isize,
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    ::gemm::Parallelism::Rayon(0),
                );
            }
        });
}

/// Attention of ViT-B: the whole grid, and windows of 14.
#[divan::bench(args = [0, 14])]
fn attention(bencher: Bencher<'_, '_>, window: usize) {
    let (grid, heads, head_dim) = (64, 12, 64);
    let width = heads * head_dim;
    let qkv = values(grid * grid * 3 * width);
    let sequences = match window {
        0 => Sequences::Whole {
            count: 1,
            length: grid * grid,
        },
        window => Sequences::Windows {
            count: 1,
            height: grid,
            width: grid,
            window,
        },
    };
    let extent = if window == 0 { grid } else { window };
    let table = values((2 * extent - 1) * head_dim);
    let padding = values(width);
    let attention = Attention {
        precision: Precision::Fp32,
        heads,
        head_dim,
        value_dim: head_dim,
        scale: 0.125,
        bias: Bias::Decomposed {
            rows: extent,
            columns: extent,
            h: &table,
            w: &table,
        },
        padding: Some((&padding, &padding)),
    };
    let part = |i: usize| Tokens {
        values: &qkv[i * width..],
        token_stride: 3 * width,
        head_stride: head_dim,
    };
    let pairs = sequences.count() * sequences.length() * sequences.length();
    let mut out = vec![0.0; sequences.tokens() * width];
    bencher
        .counter(ItemsCount::new(2 * pairs * width))
        .bench_local(|| {
            let kv = [part(1), part(2)];
            attention.forward(part(0), sequences, kv, sequences, black_box(&mut out));
        });
}

/// Windows of TinyViT and of Hiera: side of the grid, side of a window, heads and their width.
#[divan::bench(args = [(80, 7, 4, 32), (40, 14, 5, 32), (40, 7, 10, 32), (256, 8, 1, 96)])]
fn attention_in_windows(
    bencher: Bencher<'_, '_>,
    (grid, window, heads, head_dim): (usize, usize, usize, usize),
) {
    let (width, length) = (heads * head_dim, window * window);
    let (qkv, padding) = (values(grid * grid * 3 * width), values(3 * width));
    let table = values(heads * length * length);
    let windows = Sequences::Windows {
        count: 1,
        height: grid,
        width: grid,
        window,
    };
    let attention = Attention {
        precision: Precision::Fp32,
        heads,
        head_dim,
        value_dim: head_dim,
        scale: 0.125,
        bias: Bias::Table(&table),
        padding: Some((&padding, &padding)),
    };
    // Query, key and value of a head side by side.
    let [q, k, v] = [0, 1, 2].map(|i| Tokens {
        values: &qkv[i * head_dim..],
        token_stride: 3 * width,
        head_stride: 3 * head_dim,
    });
    let mut out = vec![0.0; grid * grid * width];
    bencher
        .counter(ItemsCount::new(2 * grid * grid * length * width))
        .bench_local(|| attention.forward(q, windows, [k, v], windows, black_box(&mut out)));
}

/// One prompt's tokens attend to the image tokens.
#[divan::bench]
fn cross_attention(bencher: Bencher<'_, '_>) {
    let (tokens, count, width, inner, heads) = (7, 4096, 256, 128, 8);
    let (image, position) = (values(count * width), values(count * width));
    let (queries, weight, bias) = (values(tokens * inner), values(width * inner), values(inner));
    let image = ImageTokens {
        values: &image,
        position: &position,
        width,
    };
    let value = Projection {
        weight: &weight,
        bias: &bias,
    };
    let attention = TokensToImage {
        precision: Precision::Fp32,
        key: value,
        value,
        heads,
    };
    let mut out = vec![0.0; tokens * inner];
    bencher.bench_local(|| attention.forward(&queries, image, black_box(&mut out)));
}

/// The image tokens attend to one prompt's tokens.
#[divan::bench]
fn cross_attention_of_image_tokens(bencher: Bencher<'_, '_>) {
    let (tokens, count, width, inner, heads) = (7, 4096, 256, 128, 8);
    let (x, position) = (values(count * width), values(count * width));
    let (keys, weight, bias) = (values(tokens * inner), values(width * inner), values(width));
    let image = ImageTokens {
        values: &x,
        position: &position,
        width,
    };
    let (query, output) = (
        Projection {
            weight: &weight,
            bias: &bias[..inner],
        },
        Projection {
            weight: &weight,
            bias: &bias,
        },
    );
    let norm = Norm {
        gamma: &bias,
        beta: &bias,
        epsilon: 1e-5,
    };
    let attention = ImageToTokens {
        precision: Precision::Fp32,
        query,
        output,
        norm,
        heads,
    };
    let mut out = vec![0.0; count * width];
    bencher.bench_local(|| attention.forward(image, [&keys, &keys], black_box(&mut out)));
}

/// The four masks of one prompt, from image tokens to logits.
#[divan::bench]
fn upscaling(bencher: Bencher<'_, '_>) {
    let (side, width, middle, last, masks) = (64, 256, 64, 32, 4);
    let (image, first, second) = (
        values(side * side * width),
        values(4 * width * middle),
        values(4 * middle * last),
    );
    let (bias, hyper) = (values(middle), values(masks * last));
    let upscaling = Upscaling {
        first: &first,
        first_bias: &bias,
        norm: Norm {
            gamma: &bias,
            beta: &bias,
            epsilon: 1e-6,
        },
        second: &second,
        second_bias: &bias[..last],
        features: None,
    };
    let packed = upscaling.packed(Precision::Fp32);
    let mut out = vec![0.0; masks * 16 * side * side];
    bencher.bench_local(|| packed.masks(&image, side, &hyper, black_box(&mut out)));
}

#[divan::bench]
fn gelu(bencher: Bencher<'_, '_>) {
    let x = values(4096 * 3072);
    bencher
        .counter(ItemsCount::new(x.len()))
        .with_inputs(|| x.clone())
        .bench_local_values(|mut x| {
            gelu_in_place(&mut x);
            x
        });
}

#[divan::bench(name = "layer_norm")]
fn layer_norm_of_tokens(bencher: Bencher<'_, '_>) {
    let (rows, columns) = (4096, 768);
    let (x, gamma, beta) = (values(rows * columns), values(columns), values(columns));
    let mut out = vec![0.0; x.len()];
    bencher
        .counter(ItemsCount::new(x.len()))
        .bench_local(|| layer_norm(&x, &gamma, &beta, 1e-6, black_box(&mut out)));
}

#[divan::bench]
fn depthwise(bencher: Bencher<'_, '_>) {
    let shape = Depthwise::padded([1, 256, 256, 256], 3, 1, 1);
    let (x, weight, bias) = (values(256 * 256 * 256), values(9 * 256), values(256));
    let mut out = vec![0.0; shape.out_shape().iter().product()];
    bencher
        .counter(ItemsCount::new(9 * out.len()))
        .bench_local(|| {
            shape.forward(
                &x,
                &weight,
                &bias,
                Activation::default(),
                black_box(&mut out),
            );
        });
}
