//! What is typed for `serve`.
#![allow(clippy::doc_markdown, reason = "these comments are the help texts")]

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use samara::Precision;
use samara_server::LogFormat;

#[derive(Debug, Args)]
#[command(after_help = "\
The API is described by /openapi.json and shown by /docs. The same address serves annotation tools:
docs/x-anylabeling.md, docs/label-studio.md and docs/cvat.md say how each is pointed to it. The file of
--config has more: limits, several tokens, Label Studio's address; flags override it. Ctrl-C ends the
server when what runs is answered; a second one ends it at once.

Environment: SAMARA_TOKEN, SAMARA_PRECISION, LABEL_STUDIO_URL with LABEL_STUDIO_API_KEY.

Examples:
  For this machine:
    samara serve
    curl -s 127.0.0.1:8765/v1/images --data-binary @photo.jpg -H 'content-type: image/jpeg'
  For others, who need a token:
    samara serve --listen 0.0.0.0:8765 --token-file token.txt --root /data/photos")]
pub(crate) struct ServeFlags {
    #[command(flatten)]
    pub(crate) server: ServerFlags,

    /// Listen on other addresses than this machine's own without a token
    #[arg(long, help_heading = "Network")]
    pub(crate) allow_without_token: bool,

    /// Origin of pages that may call the server, such as https://tool.example; repeatable
    #[arg(long, value_name = "ORIGIN", help_heading = "Network")]
    pub(crate) cors: Vec<String>,

    /// Host from which images may be fetched when a request gives a URL; repeatable
    #[arg(long, value_name = "HOST", help_heading = "Network")]
    pub(crate) image_host: Vec<String>,

    /// Folder below which requests may name images and videos by their path
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    pub(crate) root: Option<PathBuf>,

    /// Folder of what is kept: images, embeddings, video sessions [default: server in the platform's cache folder, ~/.cache/samara on Linux]
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    pub(crate) state: Option<PathBuf>,

    /// A TOML file of settings
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    pub(crate) config: Option<PathBuf>,

    /// Form of the log, which goes to standard error [default: text]
    #[arg(long, value_name = "text|json", help_heading = "Log")]
    pub(crate) log_format: Option<LogFormatFlag>,
}

/// What is said of any server.
#[derive(Debug, Args)]
pub(crate) struct ServerFlags {
    /// Address and port; port 0 takes a free one [default: 127.0.0.1:8765]
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Network")]
    pub(crate) listen: Option<SocketAddr>,

    /// A file with a token that requests must carry; or several, one NAME TOKEN a line
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub(crate) token_file: Option<PathBuf>,

    /// The model that answers where a request names none [default: lite]
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "checkpoint",
        help_heading = "Model"
    )]
    pub(crate) model: Option<String>,

    /// A checkpoint file in its place
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub(crate) checkpoint: Option<PathBuf>,

    /// Numbers that models multiply: fp32, bf16, int8, or auto: what the processor has instructions for, int8
    /// for a model of `samara models quantize`, or else bf16, or else fp32 [default: auto]
    #[arg(
        long,
        value_name = "PRECISION",
        env = "SAMARA_PRECISION",
        hide_env_values = true,
        help_heading = "Model"
    )]
    pub(crate) precision: Option<Precision>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormatFlag {
    Text,
    Json,
}

impl From<LogFormatFlag> for LogFormat {
    fn from(flag: LogFormatFlag) -> Self {
        match flag {
            LogFormatFlag::Text => Self::Text,
            LogFormatFlag::Json => Self::Json,
        }
    }
}
