//! The pages of a column chunk.
//!
//! Purpose: stands between the file and the decoders of the crate `parquet`, and checks each page: its header, what it grows
//! to, what it holds, and how much all columns hold together.
//! Invariants: memory is taken only for what the limits allow; a page that lies about its size is an error.
//! Must not know: rows.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parquet::basic::Compression;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::properties::ReaderProperties;
use parquet::file::serialized_reader::SerializedPageReader;

use super::check::Checked;
use super::footer::said;
use super::header::{PageHeader, PageKind};
use super::source::Source;
use super::thrift::ThriftError;

/// The largest header of a page: it may hold the least and the largest value.
const LARGEST_HEADER: u64 = 1 << 20;
/// The most bytes of the pages that all columns hold at a time.
const MOST_HELD: u64 = 1 << 30;
/// The most values, nulls included, of the pages that are read for one row of a column: those of its last page count too.
const MOST_OF_A_ROW: u64 = 1 << 25;

/// What the columns of a file hold together.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Bytes of pages and dictionaries.
    bytes: AtomicU64,
    /// Values of the pages that were read for the row that is being read.
    values: AtomicU64,
    /// Bytes of those pages.
    row: AtomicU64,
}

impl Held {
    /// The next row of a column begins.
    pub(super) fn begin_row(&self) {
        self.values.store(0, Ordering::Relaxed);
        self.row.store(0, Ordering::Relaxed);
    }
}

/// The pages of a column chunk.
pub(super) struct Pages {
    source: Source,
    inner: SerializedPageReader<Source>,
    checked: Checked,
    codec: Compression,
    /// The next header.
    at: u64,
    end: u64,
    held: Arc<Held>,
    dictionary: u64,
    page: u64,
}

fn wrong(what: impl std::fmt::Display) -> ParquetError {
    ParquetError::General(format!("a page is damaged: {what}"))
}

impl Pages {
    pub(super) fn new(source: &Source, chunk: &ColumnChunkMetaData, held: Arc<Held>) -> Result<Self> {
        let (at, size) = chunk.byte_range();
        // The older forms of LZ4 are told apart by trial, and one of them is not bounded.
        let properties = ReaderProperties::builder().set_backward_compatible_lz4(false).build();
        let rows = usize::try_from(chunk.num_values()).unwrap_or(0);
        let source_of = Arc::new(source.clone());
        let inner =
            SerializedPageReader::new_with_properties(source_of, chunk, rows, None, Arc::new(properties))?;
        Ok(Self {
            source: source.clone(),
            inner,
            checked: Checked::new(chunk.column_descr()),
            codec: chunk.compression(),
            at,
            end: at.checked_add(size).ok_or_else(|| wrong("it has an impossible place"))?,
            held,
            dictionary: 0,
            page: 0,
        })
    }

    fn header(&self) -> Result<PageHeader> {
        let left = self.end - self.at;
        let mut size = 256;
        loop {
            size = left.min(size);
            match PageHeader::read(&self.source.bytes(self.at, size)?) {
                Ok(header) => return Ok(header),
                Err(ThriftError::Short) if size < left.min(LARGEST_HEADER) => size *= 16,
                Err(error) => return Err(wrong(said(error))),
            }
        }
    }

    /// Accounts for a page before memory is taken for it.
    fn account(&mut self, header: &PageHeader) -> Result<()> {
        let size = header.compressed.max(header.uncompressed);
        let before = if header.kind == PageKind::Dictionary {
            std::mem::replace(&mut self.dictionary, size)
        } else {
            let values = self.held.values.fetch_add(u64::from(header.values), Ordering::Relaxed);
            let bytes = self.held.row.fetch_add(size, Ordering::Relaxed);
            if values + u64::from(header.values) > MOST_OF_A_ROW || bytes + size > MOST_HELD {
                return Err(wrong("a row has more values than are read"));
            }
            std::mem::replace(&mut self.page, size)
        };
        self.held.bytes.fetch_sub(before, Ordering::Relaxed);
        if self.held.bytes.fetch_add(size, Ordering::Relaxed) + size > MOST_HELD {
            return Err(wrong(
                "its columns hold more than 1 GiB at a time; write smaller pages or row groups",
            ));
        }
        Ok(())
    }

    /// Two codecs of the crate decompress whatever is there, so what they would give is counted first.
    fn measure(&self, header: &PageHeader) -> Result<()> {
        let skipped = match header.kind {
            PageKind::DataV2 { is_compressed: false, .. } => return Ok(()),
            PageKind::DataV2 { levels, .. } => u64::from(levels),
            PageKind::Data | PageKind::Dictionary => 0,
        };
        if !matches!(self.codec, Compression::GZIP(_) | Compression::BROTLI(_)) {
            return Ok(());
        }
        let too_short = || wrong("its levels are longer than the page");
        let begin = self.at + header.length as u64 + skipped;
        let size = header.compressed.checked_sub(skipped).ok_or_else(too_short)?;
        let most = header.uncompressed.checked_sub(skipped).ok_or_else(too_short)?;
        let bytes = self.source.bytes(begin, size)?;
        let stream: Box<dyn Read> = match self.codec {
            Compression::GZIP(_) => Box::new(flate2::read::MultiGzDecoder::new(bytes.as_slice())),
            _ => Box::new(brotli::Decompressor::new(bytes.as_slice(), 1 << 16)),
        };
        let grown = std::io::copy(&mut stream.take(most + 1), &mut std::io::sink())?;
        if most > 0 && grown != most {
            return Err(wrong("it has another size when it is decompressed than its header says"));
        }
        Ok(())
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let header = self.header()?;
        let size = (header.length as u64).saturating_add(header.compressed);
        if size > self.end - self.at {
            return Err(wrong("it is longer than its column"));
        }
        self.account(&header)?;
        self.measure(&header)?;
        let page = self.inner.get_next_page()?.ok_or_else(|| wrong("it is missing"))?;
        self.checked.page(&page).map_err(wrong)?;
        self.at += size;
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        let more = self.at < self.end;
        Ok(more.then_some(PageMetadata { num_rows: None, num_levels: None, is_dict: false }))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.get_next_page().map(|_| ())
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        Ok(self.at >= self.end)
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.dictionary + self.page, Ordering::Relaxed);
    }
}
