//! Files elsewhere, brought here: what the process of a source with a `url` does.
//!
//! The way through: [`serve`] reads a [`Request`] -> each file is brought by `file`, which opens it at the place where
//! an earlier attempt stopped (`open`), writes it, and compares its SHA-256 -> all of them become the output.
//! Events of the provider protocol on stdout say how far it is.

mod file;
mod open;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::protocol::Event;
use crate::spec::types::{Download, Link};

/// The word by which this program becomes the process of a download.
pub const DOWNLOADER: &str = "__download";

/// What to bring, on the stdin of the process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The files.
    pub download: Download,
    /// The file or the folder to make; nothing is there yet, its parent is.
    pub output: PathBuf,
    /// A folder for files that are not whole; what an earlier attempt left is there.
    pub partial: PathBuf,
}

/// Brings what stdin asks for.
pub fn serve() -> ExitCode {
    let done = request().and_then(|request| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|e| e.to_string())?.block_on(bring(&request))
    });
    match done {
        Ok(bytes) => {
            #[expect(clippy::cast_precision_loss, reason = "a number for people")]
            let size = bytes as f64 / 1e6;
            say(&Event::Done { summary: vec![("MB".to_owned(), size)] });
            ExitCode::SUCCESS
        }
        Err(message) => {
            say(&Event::Error { message });
            ExitCode::FAILURE
        }
    }
}

fn request() -> Result<Request, String> {
    serde_json::from_reader(io::stdin().lock()).map_err(|e| format!("the request is not readable: {e}"))
}

/// Brings all files; says how many bytes they have.
async fn bring(request: &Request) -> Result<u64, String> {
    let io = |what: &'static str| move |e: io::Error| format!("cannot {what}: {e}");
    fs::create_dir_all(&request.partial).map_err(io("make a folder for the download"))?;
    let links: BTreeMap<&str, &Link> = match &request.download {
        Download::File(link) => BTreeMap::from([("", link)]),
        Download::Folder(links) => links.iter().map(|(path, link)| (path.as_str(), link)).collect(),
    };
    // All are whole before one is moved, so that an attempt after this one finds what is done.
    let mut whole = Vec::new();
    for (path, link) in &links {
        // The digest names the partial file, so that bytes of another version are not gone on with.
        let partial = request.partial.join(&link.sha256);
        file::bring(link, &partial).await?;
        whole.push((
            partial,
            if path.is_empty() { request.output.clone() } else { request.output.join(path) },
        ));
    }
    let mut bytes = 0;
    for (partial, place) in whole {
        place.parent().map_or(Ok(()), fs::create_dir_all).map_err(io("make a folder for the file"))?;
        // A copy, for two files of one folder may have the same bytes; where it can, the file system shares them.
        bytes += fs::copy(&partial, &place).map_err(io("place the file"))?;
    }
    Ok(bytes)
}

/// Reports an event. A runner that is gone does not hear it, and ends this process.
fn say(event: &Event) {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    let mut out = io::stdout().lock();
    let _ = out.write_all(&line).and_then(|()| out.flush());
}
