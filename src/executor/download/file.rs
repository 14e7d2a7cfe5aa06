//! One file, brought whole.
//!
//! Purpose: the bytes behind a URL into a partial file, over broken connections, until it is whole and its digest right.
//! Invariant: a file with another digest is removed and never used. What arrived before a connection broke is kept.
//! Must not know: protocols, what the file is for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};

use super::open::{Failure, Opened, open};
use super::say;
use crate::cas::remote::without_secrets;
use crate::protocol::Event;
use crate::spec::types::Link;

/// So often nothing may come of a connection, one after the other.
const ATTEMPTS: u32 = 5;
/// The time before the second attempt; it doubles from one to the next.
const BACKOFF: Duration = Duration::from_millis(500);
/// The step in which progress is counted.
const MIB: u64 = 1 << 20;

/// Brings a file, unless it is here already.
///
/// # Errors
/// It cannot be had, or has other bytes than the link says.
pub async fn bring(link: &Link, partial: &Path) -> Result<(), String> {
    let url = without_secrets(&link.url);
    if partial.exists() && digest(partial)? == link.sha256 {
        return Ok(());
    }
    let (mut failures, mut is_anew) = (0, false);
    loop {
        let here = size(partial);
        let why = match attempt(link, partial, is_anew).await {
            Ok(()) => {
                let message = format!("{url}: {} bytes, with the SHA-256 of the pipeline", size(partial));
                say(&Event::Log { level: "info".into(), message });
                return Ok(());
            }
            Err(Failure::Final(why)) => return Err(format!("{url}: {why}")),
            Err(Failure::Beyond) => {
                remove(partial)?;
                is_anew = true;
                continue;
            }
            Err(Failure::Passing(why)) => why,
        };
        failures = if size(partial) > here { 1 } else { failures + 1 };
        if failures >= ATTEMPTS {
            return Err(format!("{url}: {why}; gave up after {ATTEMPTS} attempts, and what arrived is kept"));
        }
        say(&Event::Log { level: "info".into(), message: format!("{url}: {why}; trying again") });
        tokio::time::sleep(BACKOFF * 2u32.pow(failures - 1)).await;
    }
}

/// Goes on with the file, and checks it when it is whole.
async fn attempt(link: &Link, partial: &Path, is_anew: bool) -> Result<(), Failure> {
    let here = size(partial);
    let opened = match open(&link.url, here).await {
        // Some servers refuse parts, with whatever status, and give the whole. Until they do, nothing is thrown away.
        Err(Failure::Final(_) | Failure::Beyond) if here > 0 => open(&link.url, 0).await?,
        opened => opened?,
    };
    let (is_resumed, is_page) = (opened.start > 0, opened.is_page);
    write(opened, partial, &without_secrets(&link.url)).await?;
    check(link, partial, is_page).map_err(|why| match is_resumed && !is_anew {
        // The server may have another file by now than the one whose beginning was here.
        true => Failure::Beyond,
        false => Failure::Final(why),
    })
}

/// The bytes that are here; 0 when there is no file.
fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// Writes what arrives. A file that ends before its size is one whose connection broke.
async fn write(mut opened: Opened, partial: &Path, url: &str) -> Result<(), Failure> {
    let io = |e: io::Error| Failure::Final(format!("cannot write {}: {e}", partial.display()));
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(partial).map_err(io)?;
    file.set_len(opened.start).map_err(io)?;
    file.seek(io::SeekFrom::End(0)).map_err(io)?;
    let mut at = opened.start;
    let mut progress = Progress::of(opened.size, at, url);
    while let Some(bytes) = opened.bytes.next().await {
        let bytes = bytes.map_err(Failure::Passing)?;
        file.write_all(&bytes).map_err(io)?;
        at += bytes.len() as u64;
        progress.at(at);
        if opened.size.is_some_and(|size| at > size) {
            return Err(Failure::Final("the server sent more than the file has".into()));
        }
    }
    match opened.size {
        Some(size) if at < size => {
            Err(Failure::Passing(format!("the connection ended at byte {at} of {size}")))
        }
        _ => Ok(()),
    }
}

/// Compares the digest; a file that has another one is removed.
fn check(link: &Link, partial: &Path, is_page: bool) -> Result<(), String> {
    let found = digest(partial)?;
    if found == link.sha256 {
        return Ok(());
    }
    remove(partial)?;
    let hint = match is_page {
        true => "the server sent a web page, such as one to sign in; does the URL name the file itself?"
            .to_owned(),
        false => format!(
            "somebody has replaced it, or the pipeline is wrong; if these bytes are the right ones, write `sha256: {found}`"
        ),
    };
    Err(format!("its bytes have the SHA-256 {found}, and not {} as the pipeline says; {hint}", link.sha256))
}

fn digest(path: &Path) -> Result<String, String> {
    let wrong = |e: io::Error| format!("cannot read {}: {e}", path.display());
    let (mut file, mut hasher) = (File::open(path).map_err(wrong)?, Sha256::new());
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(wrong)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {e}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Reports how much is here.
struct Progress {
    size: Option<u64>,
    name: String,
    start: u64,
    since: Instant,
    said: u64,
}

impl Progress {
    fn of(size: Option<u64>, start: u64, url: &str) -> Self {
        let name = url.rsplit('/').next().unwrap_or(url).to_owned();
        Self { size, name, start, since: Instant::now(), said: 0 }
    }

    /// Says so for every MiB; the runner holds back what comes too often. Steps are MiB, begun ones too.
    fn at(&mut self, bytes: u64) {
        let step = bytes.div_ceil(MIB);
        if step == self.said && self.size != Some(bytes) {
            return;
        }
        self.said = step;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = (bytes - self.start) as f64 / 1e6 / self.since.elapsed().as_secs_f64().max(1e-3);
        let note = format!("MiB  {rate:.1} MB/s  {}", self.name);
        say(&Event::Progress { step, total: self.size.map_or(0, |size| size.div_ceil(MIB)), note });
    }
}
