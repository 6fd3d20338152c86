//! The server: its routes, its connections, and its end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::access::{Access, Client, PREFLIGHT_KEPT, admit};
use crate::app::{App, OpenError};
use crate::body::BodyMemory;
use crate::config::Config;
use crate::dialects::{cvat, label_studio, x_anylabeling_video};
use crate::error::{Problem, cut};
use crate::metrics::{RequestLabels, RouteLabels};
use crate::openapi::{Api, complete};
use crate::page;
use crate::routes::{
    edits, embeddings, formats, images, jobs, models, pictures, predict, project, quality, tracks,
    training, videos,
};

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] crate::ConfigError),
    /// A model.
    #[error("{0}")]
    Model(String),
    /// The address.
    #[error("{0}: cannot listen there: {1}")]
    Listen(SocketAddr, io::Error),
    /// Another server works in the folder of what is kept.
    #[error("{}: another server works there; name a folder of its own with --state", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// The project.
    #[error("{0}")]
    Project(String),
    /// The folder of what is kept.
    #[error("{}: {why}", folder.display())]
    State {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        why: io::Error,
    },
}

/// A server that listens, and answers once it is [run](Self::run).
pub struct Server {
    listener: TcpListener,
    state: PathBuf,
    app: Arc<App>,
    router: Router,
}

/// Bytes of a request's line and headers.
const HEADER_BYTES: usize = 64 << 10;
/// In which they must come.
const HEADER_SECONDS: u64 = 10;
/// Characters of a path or an id in a line of the log.
const LOGGED: usize = 200;
/// In which a client must read something of an answer.
const UNREAD_SECONDS: u64 = 60;

impl Server {
    /// Opens what is kept, listens, and loads the models.
    ///
    /// # Errors
    /// The configuration makes no sense, a folder or an address cannot be used, or a model cannot be loaded.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        config.check()?;
        let state = config
            .state
            .clone()
            .unwrap_or_else(|| std::env::temp_dir().join("samara-server"));
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.map_err(|e| ServerError::Listen(config.listen, e))?;
        let mut config = config;
        config.root = config.root.or_else(|| config.project.clone());
        config.listen = listener
            .local_addr()
            .map_err(|e| ServerError::Listen(config.listen, e))?;
        let app = App::open(config, &state).map_err(|error| {
            let folder = state.clone();
            match error {
                OpenError::State(why) => ServerError::State { folder, why },
                OpenError::Busy => ServerError::Busy { folder },
                OpenError::Project(error) => ServerError::Project(error.to_string()),
            }
        })?;
        let app = Arc::new(app);
        let names = app.config.models.clone();
        for name in [app.models.default_name()].iter().chain(&names) {
            let loaded = app.models.load(name).await;
            loaded.map_err(|problem| ServerError::Model(problem.detail().to_owned()))?;
        }
        let router = router(&app);
        Ok(Self {
            listener,
            state,
            app,
            router,
        })
    }

    /// The folder of what is kept.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// How many pictures the project has that is open.
    pub async fn pictures(&self) -> usize {
        let Ok(open) = self.app.project() else {
            return 0;
        };
        let pictures = open.ask(samara_project::Project::pictures).await;
        pictures.map_or(0, |pictures| pictures.len())
    }

    /// Where it listens; its port is a free one if the configuration says 0.
    pub fn address(&self) -> SocketAddr {
        self.app.config.listen
    }

    /// Answers requests until `end` is ready. Then no more are taken, those that run are answered, jobs are stopped,
    /// and sessions are saved.
    pub async fn run(self, end: impl Future<Output = ()>) {
        let Self {
            listener,
            app,
            router,
            ..
        } = self;
        let limits = &app.config.limits;
        let connections = Arc::new(Semaphore::new(limits.connections));
        let graceful = GracefulShutdown::new();
        let mut end = std::pin::pin!(end);
        loop {
            let accepted = tokio::select! {
                () = &mut end => break,
                accepted = accept(&listener, &connections) => accepted,
            };
            let Some((stream, peer, permit)) = accepted else {
                continue;
            };
            let service = router
                .clone()
                .map_request(move |mut request: hyper::Request<_>| {
                    request.extensions_mut().insert(ConnectInfo(peer));
                    request
                });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(HEADER_SECONDS))
                .max_buf_size(HEADER_BYTES)
                .serve_connection(
                    TokioIo::new(timed(stream)),
                    TowerToHyperService::new(service),
                );
            let connection = graceful.watch(connection);
            let open = app.metrics.connections.clone();
            open.inc();
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%peer, "connection: {error}");
                }
                open.dec();
                drop(permit);
            });
        }
        drop(listener);
        tracing::info!("ending: no more requests are taken");
        app.ending.cancel();
        app.jobs.cancel_all();
        let _ = app.training.stop();
        let rest = Duration::from_secs(limits.shutdown_seconds);
        let videos = app.videos.stop_all();
        if tokio::time::timeout(rest, async { tokio::join!(graceful.shutdown(), videos) })
            .await
            .is_err()
        {
            tracing::warn!("requests are left unanswered after {} s", rest.as_secs());
        }
        // A model at work is not waited for without end.
        let (ended, all_ended) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            app.training.end();
            app.models.close_all();
            // The folder of what is kept is free for another server before this one says that it has ended.
            drop(app);
            drop(ended);
        });
        if tokio::time::timeout(rest, all_ended).await.is_err() {
            tracing::warn!("a model is left at work after {} s", rest.as_secs());
        }
    }
}

/// A connection that ends when its client reads nothing for long.
fn timed(stream: TcpStream) -> Pin<Box<TimeoutStream<TcpStream>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(Duration::from_secs(UNREAD_SECONDS)));
    Box::pin(stream)
}

/// The next connection, while there are fewer than may be.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Answers are small, and somebody waits.
            let _ = stream.set_nodelay(true);
            Some((stream, peer, permit))
        }
        Err(error) => {
            tracing::warn!("a connection is not accepted: {error}");
            // As when there are no more file descriptors: others have to close first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

/// The native API, described.
fn native() -> OpenApiRouter<Arc<App>> {
    let mut native = OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(images::add, images::list))
        .routes(routes!(images::get, images::remove))
        .routes(routes!(embeddings::ask))
        .routes(routes!(embeddings::get, embeddings::remove))
        .routes(routes!(predict::predict))
        .routes(routes!(jobs::everything))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::get, jobs::remove))
        .routes(routes!(jobs::result))
        .routes(routes!(jobs::events))
        .routes(routes!(videos::create, videos::list))
        .routes(routes!(videos::get, videos::remove))
        .routes(routes!(videos::push))
        .routes(routes!(videos::prompt, videos::clear_prompt))
        .routes(routes!(videos::remove_object))
        .routes(routes!(videos::propagate))
        .routes(routes!(project::get))
        .routes(routes!(project::scan))
        .routes(routes!(project::add_class))
        .routes(routes!(project::change_class, project::remove_class))
        .routes(routes!(project::events))
        .routes(routes!(formats::export))
        .routes(routes!(formats::import))
        .routes(routes!(training::start, training::get, training::stop))
        .routes(routes!(pictures::list))
        .routes(routes!(pictures::get))
        .routes(routes!(pictures::open))
        .routes(routes!(pictures::thumbnail))
        .routes(routes!(pictures::tile))
        .routes(routes!(edits::edit))
        .routes(routes!(edits::undo))
        .routes(routes!(edits::redo))
        .routes(routes!(edits::history))
        .routes(routes!(tracks::open))
        .routes(routes!(tracks::list))
        .routes(routes!(tracks::propagate))
        .routes(routes!(quality::quality))
        .routes(routes!(models::list, models::load))
        .routes(routes!(models::get, models::unload))
        .routes(routes!(models::health))
        .routes(routes!(models::metrics));
    complete(native.get_openapi_mut());
    native
}

/// The native API, as `/openapi.json` describes it.
pub fn openapi() -> utoipa::openapi::OpenApi {
    native().into_openapi()
}

/// What annotation tools call beside it.
fn dialects() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/video/init", post(x_anylabeling_video::init))
        .route("/v1/video/prompt", post(x_anylabeling_video::prompt))
        .route(
            "/v1/video/propagate/stream",
            post(x_anylabeling_video::propagate),
        )
        .route("/v1/video/cleanup/{id}", post(x_anylabeling_video::cleanup))
        .route("/setup", post(label_studio::setup))
        .route("/predict", post(label_studio::predict))
        .route("/webhook", post(label_studio::webhook))
        .route("/versions", get(label_studio::versions))
        .route("/api/functions", get(cvat::functions))
        .route("/api/functions/{name}", get(cvat::describe))
        .route("/api/function_invocations", post(cvat::invoke))
        .route("/", post(cvat::invoke).get(page::root))
}

fn router(app: &Arc<App>) -> Router {
    let (native, api) = native().split_for_parts();
    let access = Arc::new(Access::new(&app.config));
    let request_id = HeaderName::from_static("x-request-id");
    let routes = native
        .merge(dialects())
        .merge(page::routes())
        .merge(SwaggerUi::new("/docs").url("/openapi.json", api))
        .fallback(nothing_there)
        .method_not_allowed_fallback(not_so)
        .with_state(Arc::clone(app));
    // The last layer is the first that a request meets.
    let layered = routes
        .layer(map_response(told))
        .layer(from_fn_with_state(access, admit))
        .layer(cors(&app.config))
        .layer(CatchPanicLayer::custom(|_| {
            Problem::internal("the request failed; the log of the server may say why")
                .into_response()
        }))
        .layer(from_fn_with_state(Arc::clone(app), observe))
        .layer(PropagateRequestIdLayer::new(request_id.clone()))
        .layer(SetRequestIdLayer::new(request_id, MakeRequestUuid));
    // A layer of a router sees the path after it was matched: it must be whole before.
    Router::new()
        .fallback_service(layered)
        .layer(from_fn(single_slashes))
}

/// Pages that may call.
fn cors(config: &Config) -> CorsLayer {
    let origins = config
        .cors
        .iter()
        .filter_map(|origin| HeaderValue::from_str(&origin.to_ascii_lowercase()).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE])
        .max_age(PREFLIGHT_KEPT)
}

/// `//v1/models` is what becomes of an address with a slash at its end.
async fn single_slashes(mut request: Request, next: Next) -> Response {
    if request.uri().path().contains("//") {
        let path: Vec<&str> = request
            .uri()
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        let query = request
            .uri()
            .query()
            .map_or_else(String::new, |query| format!("?{query}"));
        if let Ok(uri) = format!("/{}{query}", path.join("/")).parse::<Uri>() {
            *request.uri_mut() = uri;
        }
    }
    next.run(request).await
}

/// An error without a body, as of files that are not there, says what it is.
async fn told(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if is_error && !response.headers().contains_key(CONTENT_TYPE) {
        return Problem::new(status, status.canonical_reason().unwrap_or("error")).into_response();
    }
    response
}

async fn nothing_there(uri: Uri) -> Problem {
    Problem::not_found(format!(
        "there is nothing at {}; GET /openapi.json lists what there is",
        uri.path()
    ))
}

async fn not_so(method: Method, uri: Uri) -> Problem {
    let detail = format!("{method} is not understood at {}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

/// Logs a request, and counts it.
async fn observe(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let path = cut(request.uri().path(), LOGGED);
    let id = request
        .headers()
        .get("x-request-id")
        .and_then(|id| id.to_str().ok());
    let id = cut(id.unwrap_or_default(), LOGGED);
    let peer = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map(|info| info.0.ip());
    app.metrics.in_flight.inc();
    let ends = Ends(&app);
    let memory = BodyMemory::default();
    request.extensions_mut().insert(memory.clone());
    let response = next.run(request).await;
    drop((ends, memory));
    let seconds = start.elapsed().as_secs_f64();
    let status = response.status().as_u16();
    let client = response
        .extensions()
        .get::<Client>()
        .map(|client| client.0.clone());
    let client = client
        .or_else(|| peer.map(|ip| ip.to_string()))
        .unwrap_or_default();
    let ms = (seconds * 1e5).round() / 100.0;
    if status >= 500 {
        tracing::error!(%method, path, status, ms, client, id, "request");
    } else {
        tracing::info!(%method, path, status, ms, client, id, "request");
    }
    let labels = RequestLabels {
        method: known_method(&method),
        route: route.clone(),
        status,
    };
    app.metrics.requests.get_or_create_owned(&labels).inc();
    let duration = app
        .metrics
        .duration
        .get_or_create_owned(&RouteLabels { route });
    duration.observe(seconds);
    response
}

/// Counts a request as ended, also when its client goes away.
struct Ends<'a>(&'a App);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
    }
}

/// Methods that a client makes up must not make metrics grow.
fn known_method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "HEAD" => "HEAD",
        _ => "other",
    }
}

/// The service cannot fail: what goes wrong is an answer.
const _: fn() = || {
    fn infallible<S: tower::Service<Request, Error = Infallible>>() {}
    infallible::<Router>();
};
