//! What is typed for `studio`.
#![allow(clippy::doc_markdown, reason = "these comments are the help texts")]

use std::path::PathBuf;

use clap::Args;

use crate::flags::serve::ServerFlags;

#[derive(Debug, Args)]
#[command(after_help = "\
What is drawn is kept in the folder, in the file samara.project, as it is drawn: nothing is lost
when the program or the machine ends. The pictures are read and never written. Where the port is
taken and --listen names none, a free one is used. Ctrl-C ends the studio.

Environment: SAMARA_TOKEN.

Examples:
  Draw masks on the pictures of a folder:
    samara studio photos
  With others, who need a token:
    samara studio photos --listen 0.0.0.0:8765 --token-file tokens.txt --no-open")]
pub(crate) struct StudioFlags {
    /// A folder of pictures; those of the folders in it belong to it, too
    pub(crate) folder: PathBuf,

    /// Do not open the browser
    #[arg(long)]
    pub(crate) no_open: bool,

    #[command(flatten)]
    pub(crate) server: ServerFlags,

    /// Folder of what can be made anew: embeddings, thumbnails [default: one for each folder of pictures in the platform's cache folder, ~/.cache/samara/studio on Linux]
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    pub(crate) state: Option<PathBuf>,
}
