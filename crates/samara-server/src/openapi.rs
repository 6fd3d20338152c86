//! The description of the native API, from its types: `/openapi.json`.

use axum::http::StatusCode;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{OpenApi as Description, RefOr};
use utoipa::{Modify, OpenApi, ToSchema};

use crate::video_answers::VideoFrameAnswer;

/// What the routes do not say themselves.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Samara",
        description = "Promptable segmentation: an image and a click, a box or a rough mask in, three candidate masks \
                       out. Coordinates are pixels of the original image after EXIF orientation, x before y; the \
                       upper left pixel covers 0 to 1, and its centre is at 0.5. Errors are problem details \
                       (RFC 9457) and name the field.",
        license(name = "MIT OR Apache-2.0"),
    ),
    components(schemas(VideoFrameAnswer)),
    modifiers(&Security),
    tags(
        (name = "images", description = "Images, named by their content"),
        (name = "embeddings", description = "The expensive step, ahead of the first click"),
        (name = "predict", description = "Masks for prompts"),
        (name = "everything", description = "All masks of an image, as a job"),
        (name = "videos", description = "Objects followed through videos"),
        (name = "quality", description = "How good masks are that someone else made"),
        (name = "project", description = "The project that is open: pictures, and what is drawn on them"),
        (name = "models", description = "Models: list, load, unload"),
        (name = "health", description = "Whether the server is well"),
    )
)]
pub(crate) struct Api;

/// The ways in which a token is carried, all of which may be left out where the server needs none.
struct Security;

impl Modify for Security {
    fn modify(&self, api: &mut Description) {
        let components = api.components.get_or_insert_default();
        let http = |scheme| SecurityScheme::Http(HttpBuilder::new().scheme(scheme).build());
        let header = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("Token")));
        components.add_security_scheme("bearer", http(HttpAuthScheme::Bearer));
        components.add_security_scheme("basic", http(HttpAuthScheme::Basic));
        components.add_security_scheme("token", header);
        let none = SecurityRequirement::default();
        let needs = |name| SecurityRequirement::new::<_, [&str; 0], &str>(name, []);
        let any = [none, needs("bearer"), needs("basic"), needs("token")];
        api.security = Some(any.into());
    }
}

/// Completes the description of the routes: what responses are, that files are bytes, and that a server may fail.
pub(crate) fn complete(api: &mut Description) {
    for item in api.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.delete];
        operations
            .into_iter()
            .flatten()
            .for_each(complete_operation);
    }
}

fn complete_operation(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    if let Some(problem) = responses.get("4XX").cloned() {
        responses.entry("5XX".into()).or_insert(problem);
    }
    for (status, response) in responses {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            status_text(status).clone_into(&mut response.description);
        }
    }
    let Some(RefOr::T(body)) = &mut operation.request_body else {
        return;
    };
    let contents = body.content.iter_mut();
    for (_, content) in contents.filter(|(kind, _)| !kind.ends_with("json")) {
        let bytes = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)));
        if let RefOr::T(content) = content {
            content.schema = Some(bytes.into());
        }
    }
}

fn status_text(status: &str) -> &'static str {
    match status {
        "4XX" => "The request is refused; the body says why, and names the field",
        "5XX" => "The server fails, ends, or is out of time or of disk",
        status => StatusCode::from_bytes(status.as_bytes())
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Answer"),
    }
}

/// How the options of the mask generator are described; those that are left out are the defaults.
#[derive(ToSchema)]
#[schema(as = EverythingOptions)]
#[expect(dead_code, reason = "a description")]
pub(crate) struct EverythingOptions {
    /// Points along one side of the image, and of every crop of the first layer.
    #[schema(default = 32, minimum = 1)]
    points_per_side: Option<u32>,
    /// Points decoded at once, at most.
    #[schema(default = 64, minimum = 1)]
    points_per_batch: usize,
    /// Masks whose predicted IoU is not above this are dropped; left out: as the model says.
    pred_iou_thresh: Option<f32>,
    /// Masks whose stability is below this are dropped; left out: as the model says.
    stability_score_thresh: Option<f32>,
    /// How far the logits' threshold is moved, up and down, to see how stable a mask is.
    #[schema(default = 1.0)]
    stability_score_offset: f32,
    /// A mask whose box has more than this IoU with that of a better one of the same crop is dropped.
    #[schema(default = 0.7)]
    box_nms_thresh: f64,
    /// Layers of crops; layer n cuts the image into 2ⁿ × 2ⁿ overlapping crops.
    #[schema(default = 0)]
    crop_n_layers: u32,
    /// As `box_nms_thresh`, between crops.
    #[schema(default = 0.7)]
    crop_nms_thresh: f64,
    /// Overlap of the crops of the first layer, as a share of the image's shorter side.
    #[schema(default = 0.3413)]
    crop_overlap_ratio: f64,
    /// Points along one side are divided by this to the power of the layer.
    #[schema(default = 1, minimum = 1)]
    crop_n_points_downscale_factor: u32,
    /// The points of every layer, x and y from 0 to 1, in the place of `points_per_side`.
    point_grids: Option<Vec<Vec<[f64; 2]>>>,
    /// Fills holes and removes islands of fewer pixels; 0 leaves masks as they are.
    #[schema(default = 0)]
    min_mask_region_area: u64,
    /// Gives every mask back to the model, with its point, and keeps the second answer.
    #[schema(default = false)]
    use_m2m: bool,
    /// Leaves out points that lie inside finished masks of all three levels: faster, and not the official result.
    #[schema(default = false)]
    adaptive: bool,
}

/// How the options of a video session are described; those that are left out are the defaults.
#[derive(ToSchema)]
#[schema(as = VideoOptions)]
#[expect(dead_code, reason = "a description")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct VideoOptions {
    /// Frames of the video, if that is known: object pointers of a video of fewer than 16 frames are dated otherwise.
    num_frames: Option<usize>,
    /// A pixel belongs to one object at most, the one with the highest logit.
    non_overlap_masks: bool,
    /// Holes of at most so many cells of the mask logits are filled.
    fill_hole_area: u64,
    /// A correction on a frame that was tracked makes it a conditioning frame.
    add_all_frames_to_correct_as_cond: bool,
    /// A prompt drops what is remembered of the frames around it.
    clear_non_cond_mem_around_input: bool,
    /// Keeps what is remembered of all frames, in the place of those around the last one and around prompts.
    keep_all: bool,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use crate::openapi;

    fn described() -> Value {
        serde_json::to_value(openapi()).unwrap()
    }

    fn keys(object: &Value) -> BTreeSet<&str> {
        object
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect()
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let api = described();
        let mut seen = BTreeSet::new();
        for item in api["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(seen.insert(id.to_owned()), "{id}");
                for response in operation["responses"].as_object().unwrap().values() {
                    assert!(
                        !response["description"].as_str().unwrap().is_empty(),
                        "{id}"
                    );
                }
            }
        }
        assert!(seen.len() > 20);
    }

    #[test]
    fn lists_say_what_is_in_them() {
        let api = described();
        for name in ["OpenedAnswer", "Applied"] {
            let objects = &api["components"]["schemas"][name]["properties"]["objects"];
            assert_eq!(objects["items"]["$ref"], "#/components/schemas/DrawnObject");
        }
    }

    #[test]
    fn options_are_those_of_the_engine() {
        let api = described();
        let schemas = &api["components"]["schemas"];
        let options = serde_json::to_value(samara::MaskGeneratorOptions::default()).unwrap();
        let mut expected = keys(&options);
        // Masks are answered as `masks` says.
        expected.remove("output_mode");
        assert_eq!(keys(&schemas["EverythingOptions"]["properties"]), expected);
        let options = serde_json::to_value(samara::VideoOptions::default()).unwrap();
        assert_eq!(keys(&schemas["VideoOptions"]["properties"]), keys(&options));
    }
}
