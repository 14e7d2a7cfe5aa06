//! Records of a remote that stay.
//!
//! Purpose: the objects `pins/NAME`.
//! Invariant: a pin that cannot be read ends a collection of garbage, for nobody can say what it keeps.
//! Must not know: which stages have these keys.

use std::collections::BTreeMap;

use object_store::path::Path as ObjectPath;
use object_store::{Error, ObjectStoreExt, PutPayload};

use crate::cas::care::{MOST_PIN_BYTES, Pin};
use crate::cas::remote::claims::wait_for_collectors;
use crate::cas::remote::error::RemoteError;
use crate::cas::remote::object::Remote;

/// The folder of pins.
pub(super) const PINS: &str = "pins";

impl Remote {
    /// A pin; none when it is gone.
    pub(in crate::cas::remote) async fn read_pin(
        &self,
        path: &ObjectPath,
    ) -> Result<Option<Pin>, RemoteError> {
        let Some(bytes) = self.small(path, MOST_PIN_BYTES, "read a pin").await? else { return Ok(None) };
        let wrong =
            |why| RemoteError::WrongBytes { remote: self.name.clone(), what: format!("the pin {path}"), why };
        Pin::parse(&bytes).map(Some).map_err(wrong)
    }

    /// All pins by name.
    pub(in crate::cas::remote) async fn read_pins(&self) -> Result<BTreeMap<String, Pin>, RemoteError> {
        self.prepare().await?;
        let mut pins = BTreeMap::new();
        for meta in self.list(PINS).await? {
            let pin = self.read_pin(&meta.location).await?;
            pins.extend(pin.map(|pin| (meta.location.filename().unwrap_or_default().to_owned(), pin)));
        }
        Ok(pins)
    }

    /// Pins records under a name, in the place of what was pinned under it. Whoever removes garbage at the moment may
    /// not have seen the pin: that is waited for, and the caller looks afterwards at what is there.
    pub(in crate::cas::remote) async fn write_pin(&self, name: &str, pin: &Pin) -> Result<(), RemoteError> {
        self.prepare().await?;
        let bytes = pin.to_bytes().map_err(|e| RemoteError::Request {
            remote: self.name.clone(),
            what: "write a pin".into(),
            why: e.to_string(),
        })?;
        let put = self.store.put(&self.at(&[PINS, name]), PutPayload::from_bytes(bytes.into())).await;
        self.done("write a pin", put)?;
        wait_for_collectors(self).await
    }

    /// Removes a pin; false when there is none of this name. (Servers do not always say that there was none.)
    pub(in crate::cas::remote) async fn remove_pin(&self, name: &str) -> Result<bool, RemoteError> {
        self.prepare().await?;
        let path = self.at(&[PINS, name]);
        let head = self.store.head(&path).await;
        if self.noted("look for a pin", head)?.is_none() {
            return Ok(false);
        }
        match self.store.delete(&path).await {
            Err(Error::NotFound { .. }) => Ok(false),
            removed => self.done("remove a pin", removed).map(|()| true),
        }
    }
}
