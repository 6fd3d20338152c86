//! `/v1/project/export` and `/v1/project/import`: the project in the formats of other programs.

use std::ops::ControlFlow;
use std::path::{Component, MAIN_SEPARATOR, Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json as Answer};
use samara_project::{ExportFormat, ExportOptions, Exported, Imported};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, ToSchema};

use crate::access::Client;
use crate::app::App;
use crate::body::{File, Json, UrlQuery, is_json, look, parse};
use crate::error::{Problem, Result};
use crate::images::below;
use crate::project::Change;
use crate::routes::project::author;

/// What is exported, and whereto.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportRequest {
    /// One of the `formats` of the project.
    #[schema(value_type = String, example = "coco")]
    format: ExportFormat,
    /// Name of a new folder, which is made beside that of the pictures.
    #[schema(example = "photos-coco")]
    folder: String,
    /// Only pictures that are checked.
    #[serde(default)]
    #[schema(default = false)]
    checked_only: bool,
    /// How far polygons may leave the edges of the masks, in pixels; 0 follows every pixel.
    #[serde(default = "half")]
    #[schema(default = 0.5, minimum = 0.0)]
    tolerance: f64,
    /// Share of the pictures that are for validation, below 1: the export has the splits `train` and `val` then. 0 makes
    /// no splits.
    #[serde(default)]
    #[schema(default = 0.0, minimum = 0.0)]
    validation: f64,
}

fn half() -> f64 {
    ExportOptions::default().tolerance
}

/// What was exported.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExportAnswer {
    /// The new folder on the server.
    path: String,
    #[serde(flatten)]
    #[schema(inline)]
    exported: Exported,
}

/// Exports the project.
///
/// The folder is there as a whole or not at all; one that is there already is refused.
#[utoipa::path(
    post, path = "/v1/project/export", operation_id = "export_project", tag = "project",
    request_body(content = ExportRequest),
    responses(
        (status = 200, body = ExportAnswer),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn export(
    State(app): State<Arc<App>>,
    Json(request): Json<ExportRequest>,
) -> Result<Answer<ExportAnswer>> {
    let open = app.project()?;
    let ExportRequest {
        format,
        folder,
        checked_only,
        tolerance,
        validation,
    } = request;
    check_name("folder", "folder", &folder)?;
    if !(tolerance.is_finite() && tolerance >= 0.0) {
        let detail = format!("{tolerance}: pixels, 0 or more, are expected");
        return Err(Problem::field("tolerance", detail));
    }
    if !(0.0..1.0).contains(&validation) {
        let detail = format!("{validation}: a share from 0 to less than 1 is expected");
        return Err(Problem::field("validation", detail));
    }
    let into = open.folder().with_file_name(folder);
    let path = into.display().to_string();
    if into.exists() {
        return Err(Problem::conflict(format!("{path} is there already")).about("folder"));
    }
    // Nothing is left of it when the client goes away.
    let cancelled = CancellationToken::new();
    let _cancel = cancelled.clone().drop_guard();
    let exported = open.ask(move |project| {
        let options = ExportOptions {
            checked_only,
            tolerance,
            validation,
            ..ExportOptions::default()
        };
        project.export(format, &options, &into, &mut |_, _| {
            if cancelled.is_cancelled() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
    });
    let exported = exported.await?;
    Ok(Answer(ExportAnswer { path, exported }))
}

/// Most bytes of the name of a file, as file systems have them.
const MOST_NAME: usize = 255;

/// Refuses what is no name of one folder or file, or is too long for one.
fn check_name(field: &str, what: &str, name: &str) -> Result<()> {
    if !is_name(name) {
        let detail = format!("{name:?}: the name of one {what} is expected");
        return Err(Problem::field(field, detail));
    }
    if name.len() > MOST_NAME {
        let bytes = name.len();
        let detail =
            format!("the name of a {what} has at most {MOST_NAME} bytes; this one has {bytes}");
        return Err(Problem::field(field, detail));
    }
    Ok(())
}

/// Whether a text is the name of one folder or file.
pub(crate) fn is_name(text: &str) -> bool {
    let mut parts = Path::new(text).components();
    let is_one = matches!(parts.next(), Some(Component::Normal(name)) if name == text);
    is_one && parts.next().is_none() && !text.contains(['\\', '\0'])
}

/// What is imported from the folder of the pictures, or from beside it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportRequest {
    /// A file or folder of annotations below the folder of the pictures, relative to it; or, relative to the folder above,
    /// in one beside it, where exports lie.
    #[schema(example = "annotations.json")]
    path: String,
}

/// How a file that is sent is called.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ImportQuery {
    /// The name of a file that is sent.
    #[param(example = "annotations.json")]
    name: Option<String>,
}

/// What a path names in a folder beside that of the pictures.
fn below_beside(pictures: &Path, path: &str) -> Option<PathBuf> {
    let name = Path::new(path).components().next()?;
    let folder = pictures.parent()?.join(name);
    let found = below(pictures.parent()?, path)?;
    (folder.is_dir() && found.starts_with(folder.canonicalize().ok()?)).then_some(found)
}

/// Imports annotations.
///
/// COCO, labelme, YOLO and label maps are told apart by their content. What is there already is not doubled, and the
/// import of every picture can be undone. A file is sent as it is, or named by its path.
#[utoipa::path(
    post, path = "/v1/project/import", operation_id = "import_annotations", tag = "project",
    params(ImportQuery),
    request_body(content(
        (Vec<u8> = "application/octet-stream"),
        (ImportRequest = "application/json")
    )),
    responses(
        (status = 200, body = Imported),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn import(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    UrlQuery(query): UrlQuery<ImportQuery>,
    file: File,
) -> Result<Answer<Imported>> {
    let open = app.project()?;
    let author = author(&app, client);
    let imported = if is_json(&file.content_type) {
        let ImportRequest { path } = look(file.bytes, parse).await?;
        let missing = || {
            let detail = format!("there is no {path:?} in the folder of the pictures or beside it");
            Problem::not_found(detail).about("path")
        };
        let beside = || below_beside(open.folder(), &path);
        let found = below(open.folder(), &path)
            .or_else(beside)
            .ok_or_else(missing)?;
        open.change_classes(move |project| project.import(&found, &author))
            .await?
    } else {
        let name = query.name.unwrap_or_else(|| "annotations.json".into());
        check_name("name", "file", &name)?;
        open.change_classes(move |project| {
            let folder = tempfile::tempdir().map_err(|e| Problem::internal(e.to_string()))?;
            let path = folder.path().join(&name);
            std::fs::write(&path, &file.bytes).map_err(|e| Problem::internal(e.to_string()))?;
            let folder = folder.path().display().to_string();
            // As the client calls it.
            let named = |line: &str| {
                let line = line.replace(&format!("{folder}{MAIN_SEPARATOR}"), "");
                line.replace(&folder, &name)
            };
            let mut imported = project.import(&path, &author).map_err(|error| {
                let problem = Problem::from(error);
                Problem::new(problem.status(), named(problem.detail()))
            })?;
            for warning in &mut imported.warnings {
                *warning = named(warning);
            }
            Ok::<_, Problem>(imported)
        })
        .await?
    };
    open.tell(Change::Pictures);
    Ok(Answer(imported))
}
