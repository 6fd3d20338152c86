//! `serve`: masks over HTTP.

use std::env;
use std::panic;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use samara::checkpoint::cache::ModelCache;
use samara_server::{Config, LabelStudio, Log, Server, read_text, start_log};

use crate::error::{CliError, Result};
use crate::flags::{ServeFlags, ServerFlags};
use crate::interrupt::Interrupt;

/// Ready when the program is asked to end.
pub(crate) type Asked<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// The name of a token that is given without one.
const UNNAMED: &str = "default";
/// Threads that receive and answer; what takes time has its own.
const THREADS: usize = 2;

pub(crate) fn run(flags: &ServeFlags, threads: Option<usize>) -> Result<()> {
    let config = config(flags, threads)?;
    config.check().map_err(CliError::usage)?;
    within(&config.log.clone(), async |asked| {
        let server = Server::start(config).await.map_err(CliError::failed)?;
        let address = server.address();
        tracing::info!("what is kept lies in {}", server.state().display());
        tracing::info!("listening on http://{address}");
        tracing::info!("the API is shown at http://{address}/docs");
        server.run(asked).await;
        tracing::info!("ended");
        Ok(())
    })
}

/// Serves on threads of its own. What serves hears from its argument when it is asked to end.
pub(crate) fn within(log: &Log, serve: impl AsyncFnOnce(Asked<'_>) -> Result<()>) -> Result<()> {
    start_log(log).map_err(CliError::usage)?;
    // A panic is answered 500; what it says is for the log.
    panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(CliError::failed)?;
    let served = runtime.block_on(async {
        let interrupt = Interrupt::listen();
        serve(Box::pin(asked(&interrupt))).await
    });
    // What is written to the disk is waited for, but not for ever.
    runtime.shutdown_timeout(LAST);
    served
}

/// Waits for a signal that asks the program to end.
async fn asked(interrupt: &Interrupt) {
    while !interrupt.asked().load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How long work that nobody waits for has at the end.
const LAST: Duration = Duration::from_secs(5);

/// The file of settings, with what flags and environment say in the place of what it says.
fn config(flags: &ServeFlags, threads: Option<usize>) -> Result<Config> {
    let mut config = match &flags.config {
        Some(path) => Config::read(path).map_err(CliError::failed)?,
        None => Config::default(),
    };
    flags.server.apply(&mut config)?;
    for (flag, key) in [
        (&flags.root, &mut config.root),
        (&flags.state, &mut config.state),
    ] {
        if flag.is_some() {
            key.clone_from(flag);
        }
    }
    if config.state.is_none() {
        config.state = Some(cache()?.dir().with_file_name("server"));
    }
    config.threads = threads.or(config.threads);
    config.allow_without_token |= flags.allow_without_token;
    config.cors.extend_from_slice(&flags.cors);
    config.image_hosts.extend_from_slice(&flags.image_host);
    if let Some(format) = flags.log_format {
        config.log.format = format.into();
    }
    if config.label_studio.is_none() {
        let [url, key] = ["LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"];
        config.label_studio = match (env::var(url), env::var(key)) {
            (Ok(url), Ok(token)) => Some(LabelStudio::new(url, token)),
            (Err(_), Err(_)) => None,
            (Ok(_), Err(_)) => return Err(CliError::usage(format!("{url}: {key} is missing"))),
            (Err(_), Ok(_)) => return Err(CliError::usage(format!("{key}: {url} is missing"))),
        };
    }
    Ok(config)
}

/// The platform's cache folder.
pub(crate) fn cache() -> Result<ModelCache> {
    ModelCache::locate().map_err(|e| CliError::failed(format!("{e}; name a folder with --state")))
}

impl ServerFlags {
    /// What is said of any server, in the place of what is said so far.
    pub(crate) fn apply(&self, config: &mut Config) -> Result<()> {
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        if self.model.is_some() || self.checkpoint.is_some() {
            config.model.clone_from(&self.model);
            config.checkpoint.clone_from(&self.checkpoint);
        }
        config.precision = self.precision.unwrap_or(config.precision);
        if let Some(path) = &self.token_file {
            read_tokens(path, config)?;
        }
        if let Ok(token) = env::var("SAMARA_TOKEN") {
            config.tokens.insert(UNNAMED.into(), token.into());
        }
        Ok(())
    }
}

fn read_tokens(path: &Path, config: &mut Config) -> Result<()> {
    let text = read_text(path).map_err(|e| CliError::failed(format!("--token-file: {e}")))?;
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        let (name, token) = line
            .split_once(char::is_whitespace)
            .unwrap_or((UNNAMED, line));
        if config
            .tokens
            .insert(name.trim().into(), token.trim().into())
            .is_some()
        {
            let path = path.display();
            return Err(CliError::usage(format!(
                "--token-file {path}: two tokens are called {name:?}"
            )));
        }
        count += 1;
    }
    if count == 0 {
        return Err(CliError::usage(format!(
            "--token-file {}: there is no token in it",
            path.display()
        )));
    }
    Ok(())
}
