//! Objects by which a runner and a job on another machine talk.
//!
//! Purpose: write, read and remove the objects below `jobs/`, small ones whole and files in parts, in the one remote that
//! both use.
//! Invariant: nothing here is trusted by its name: what is read is bounded, and the caller compares it with a digest where
//! it matters. No action and no blob is ever written here.
//! Must not know: what a job is, what the objects say.

use std::io::{Read as _, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStoreExt, PutPayload, WriteMultipart};

use super::error::RemoteError;
use super::list::Remotes;
use super::object::Remote;

/// The folder of everything that jobs write.
pub(in crate::cas::remote) const JOBS: &str = "jobs";
/// From this size on a file is sent in parts.
const PART: usize = 8 << 20;
/// How many parts are on their way at a time.
const PARTS: usize = 4;

impl Remotes {
    /// The remote of this name that may be read and written.
    pub(super) fn writable(&self, name: &str) -> Result<&Arc<Remote>, RemoteError> {
        let found = self.list.iter().find(|remote| remote.name == name && remote.access.writes());
        found.ok_or_else(|| RemoteError::Open {
            remote: name.to_owned(),
            why: "there is no remote of this name that may be written; `kiln remote add` adds one".to_owned(),
        })
    }

    /// Writes an object of a job, and replaces one that is there.
    ///
    /// # Errors
    /// There is no such remote, or the request failed.
    pub fn put_job(&self, name: &str, parts: &[String], bytes: Vec<u8>) -> Result<(), RemoteError> {
        let remote = self.writable(name)?;
        self.runtime.block_on(async {
            remote.prepare().await?;
            let put = remote.store.put(&at(remote, parts), PutPayload::from(Bytes::from(bytes))).await;
            remote.done("write for a job", put)
        })
    }

    /// An object of a job; none when there is none.
    ///
    /// # Errors
    /// There is no such remote, the request failed, or the object has more than `most` bytes.
    pub fn get_job(&self, name: &str, parts: &[String], most: u64) -> Result<Option<Vec<u8>>, RemoteError> {
        let remote = self.writable(name)?;
        let got = self.runtime.block_on(remote.small(&at(remote, parts), most, "read from a job"))?;
        Ok(got.map(Vec::from))
    }

    /// Sends a file, in parts where it is large.
    ///
    /// # Errors
    /// There is no such remote, the file cannot be read, or a request failed.
    pub fn put_job_file(&self, name: &str, parts: &[String], file: &Path) -> Result<(), RemoteError> {
        let remote = self.writable(name)?;
        let unreadable = |error: std::io::Error| RemoteError::Request {
            remote: remote.name.clone(),
            what: format!("send {}", file.display()),
            why: error.to_string(),
        };
        let mut file = std::fs::File::open(file).map_err(unreadable)?;
        let failed = |error| remote.write_failed("write for a job", &error);
        self.runtime.block_on(async {
            remote.prepare().await?;
            let upload = remote.store.put_multipart(&at(remote, parts)).await.map_err(failed)?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
            let mut buffer = vec![0; PART];
            loop {
                let read = match file.read(&mut buffer) {
                    Ok(0) => return upload.finish().await.map(drop).map_err(failed),
                    Ok(read) => read,
                    Err(error) => {
                        let _ = upload.abort().await;
                        return Err(unreadable(error));
                    }
                };
                upload.wait_for_capacity(PARTS).await.map_err(failed)?;
                upload.write(&buffer[..read]);
            }
        })
    }

    /// Writes an object of a job to `sink`, and gives its bytes; none when there is none.
    ///
    /// # Errors
    /// There is no such remote, the request failed, the object has more than `most` bytes, or the sink refuses.
    pub fn get_job_file(
        &self,
        name: &str,
        parts: &[String],
        most: u64,
        sink: &mut dyn Write,
    ) -> Result<Option<u64>, RemoteError> {
        let remote = self.writable(name)?;
        let what = "read from a job";
        let wrong =
            |why: String| RemoteError::Request { remote: remote.name.clone(), what: what.to_owned(), why };
        self.runtime.block_on(async {
            let got = remote.store.get(&at(remote, parts)).await;
            let Some(got) = remote.noted(what, got)? else { return Ok(None) };
            let (mut length, mut body) = (0, got.into_stream());
            while let Some(chunk) = remote.next(&mut body, what).await? {
                length += chunk.len() as u64;
                if length > most {
                    return Err(wrong(format!("it has more than {most} bytes")));
                }
                sink.write_all(&chunk).map_err(|error| wrong(error.to_string()))?;
            }
            Ok(Some(length))
        })
    }

    /// Removes the objects of a job below these parts; what is gone already is no error.
    ///
    /// # Errors
    /// There is no such remote, or a request failed.
    pub fn remove_job(&self, name: &str, parts: &[String]) -> Result<(), RemoteError> {
        let remote = self.writable(name)?;
        self.runtime.block_on(async {
            let mut all = Vec::new();
            remote.each_object(&at(remote, parts), |meta| all.push(meta.location)).await?;
            for location in all {
                match remote.store.delete(&location).await {
                    Err(object_store::Error::NotFound { .. }) => {}
                    removed => remote.done("remove what a job wrote", removed)?,
                }
            }
            Ok(())
        })
    }
}

fn at(remote: &Remote, parts: &[String]) -> ObjectPath {
    let parts = parts.iter().map(String::as_str);
    remote.at(&[JOBS].into_iter().chain(parts).collect::<Vec<_>>())
}
