//! `/v1/images`

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::{File, UrlPath, is_json, look, parse};
use crate::error::{Problem, Result};
use crate::images::{ImageInfo, ImageRef};

/// Ids of images.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImageList {
    /// Those that the server keeps on disk, used last first.
    images: Vec<String>,
}

/// Uploads an image.
///
/// The body is the file itself (JPEG, PNG, WebP, TIFF, BMP, GIF, recognised by content), or JSON that says where it
/// is. The same file always has the same id. The server keeps it within a size, the least recently used go first.
#[utoipa::path(
    post, path = "/v1/images", operation_id = "upload_image", tag = "images",
    request_body(content(
        (Vec<u8> = "application/octet-stream"), (Vec<u8> = "image/*"),
        (ImageRef = "application/json", example = json!({
            "data": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
        }))
    )),
    responses(
        (status = 201, body = ImageInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    file: File,
) -> Result<(StatusCode, Answer<ImageInfo>)> {
    let image = if is_json(&file.content_type) {
        let image: ImageRef = look(file.bytes, parse).await?;
        app.images.find(image).await?
    } else if file.bytes.is_empty() {
        return Err(Problem::field(
            "body",
            "is empty; it is the file of an image",
        ));
    } else {
        app.images
            .add(file.bytes)
            .await
            .map_err(|e| e.about("body"))?
    };
    Ok((StatusCode::CREATED, Answer((*image.info).clone())))
}

/// Lists the images.
#[utoipa::path(get, path = "/v1/images", operation_id = "list_images", tag = "images", responses((status = 200, body = ImageList)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Answer<ImageList> {
    Answer(ImageList {
        images: app.images.ids(),
    })
}

/// Says what is known of an image.
#[utoipa::path(
    get, path = "/v1/images/{id}", operation_id = "get_image", tag = "images", params(("id" = String, Path, description = "Id of the image", pattern = "^[0-9a-f]{64}$")),
    responses(
        (status = 200, body = ImageInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<String>,
) -> Result<Answer<ImageInfo>> {
    let image = app.images.get(&id.parse()?).await?;
    Ok(Answer((*image.info).clone()))
}

/// Forgets an image, and its embeddings by the loaded models.
#[utoipa::path(
    delete, path = "/v1/images/{id}", operation_id = "delete_image", tag = "images", params(("id" = String, Path, description = "Id of the image", pattern = "^[0-9a-f]{64}$")),
    responses(
        (status = 204),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<String>,
) -> Result<StatusCode> {
    let id = id.parse()?;
    for model in app.models.all() {
        app.embeddings.remove(&id, &model);
    }
    if app.images.remove(&id) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found(format!("there is no image {id}")).about("id"))
    }
}
