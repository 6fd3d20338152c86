//! `studio`: masks drawn on the pictures of a folder, in the browser.

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use samara_image::write_atomic;
use samara_server::{Config, Server, ServerError};
use sha2::{Digest, Sha256};

use crate::commands::serve;
use crate::error::{CliError, Result};
use crate::flags::StudioFlags;
use crate::terminal;

/// The file, in the folder of what is kept, that says where the studio is.
const ADDRESS: &str = "address.txt";
/// What is worth saying on a terminal; requests are none of it.
const LOGGED: &str = "warn";

pub(crate) fn run(flags: &StudioFlags, threads: Option<usize>) -> Result<()> {
    let config = config(flags, threads)?;
    config.check().map_err(CliError::usage)?;
    let has_listen = flags.server.listen.is_some();
    serve::within(&config.log.clone(), async |asked| {
        let server = start(config, has_listen, &flags.folder).await?;
        let url = url(server.address());
        tell(&server, &flags.folder, &url)?;
        if server.pictures().await == 0 {
            let folder = flags.folder.display();
            terminal::tell("notice", &format!("{folder}: there are no pictures in it"));
        }
        if !flags.no_open && open::that_detached(&url).is_err() {
            terminal::tell("notice", "there is no browser to be opened here");
        }
        server.run(asked).await;
        Ok(())
    })
}

/// Starts the server, at a free port if nobody has said which.
async fn start(config: Config, has_listen: bool, folder: &Path) -> Result<Server> {
    let mut started = Server::start(config.clone()).await;
    if let Err(ServerError::Listen(_, error)) = &started
        && error.kind() == io::ErrorKind::AddrInUse
        && !has_listen
    {
        let mut config = config;
        config.listen.set_port(0);
        started = Server::start(config).await;
    }
    started.map_err(|error| match &error {
        ServerError::Busy { folder: state } => {
            let told = fs::read_to_string(state.join(ADDRESS)).unwrap_or_default();
            let (address, other) = told.trim().split_once('\n').unwrap_or_default();
            let at = match address {
                "" => String::new(),
                address => format!(", at {address}"),
            };
            let what = if ["", &*whole(folder)].contains(&other) {
                format!("{}: is open already{at}", folder.display())
            } else {
                let state = state.display();
                format!("--state {state}: the studio of {other} has this folder{at}; name another")
            };
            CliError::failed(what)
        }
        _ => CliError::failed(error),
    })
}

/// The path of a folder from the root on, as text.
fn whole(folder: &Path) -> String {
    let path = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    path.display().to_string()
}

/// Says where it is and of which folder, also to another start.
fn tell(server: &Server, folder: &Path, url: &str) -> Result<()> {
    let told = format!("{url}\n{}", whole(folder));
    write_atomic(server.state().join(ADDRESS), told.as_bytes())?;
    let mut out = io::stdout().lock();
    // Whoever has closed standard output does not want to know.
    let _ = writeln!(out, "Samara Studio: {url}").and_then(|()| out.flush());
    Ok(())
}

/// Where a browser on this machine finds the page.
fn url(address: SocketAddr) -> String {
    let address = if address.ip().is_unspecified() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
    } else {
        address
    };
    format!("http://{address}/studio/")
}

fn config(flags: &StudioFlags, threads: Option<usize>) -> Result<Config> {
    let mut config = Config::default();
    flags.server.apply(&mut config)?;
    config.threads = threads;
    config.log.filter = Some(LOGGED.into());
    let folder = folder(&flags.folder)?;
    config.state = match &flags.state {
        Some(state) => Some(state.clone()),
        None => Some(default_state(&folder)?),
    };
    config.project = Some(folder);
    Ok(config)
}

/// The folder of pictures, without links.
fn folder(path: &Path) -> Result<PathBuf> {
    let refuse = |why: &str| CliError::failed(format!("{}: {why}", path.display()));
    let folder = path.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => refuse("there is no such folder"),
        _ => refuse(&error.to_string()),
    })?;
    if folder.is_dir() {
        Ok(folder)
    } else {
        Err(refuse(
            "is no folder; the studio opens a folder of pictures",
        ))
    }
}

/// Digits of a folder's hash: no two folders of one user have the same.
const DIGITS: usize = 16;

/// The folder of what can be made anew, one for each folder of pictures.
fn default_state(folder: &Path) -> Result<PathBuf> {
    let cache = serve::cache()?;
    let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
    let name = hex::encode(digest);
    Ok(cache.dir().with_file_name("studio").join(&name[..DIGITS]))
}
