//! Profiles of Amazon's command line.
//!
//! Purpose: the credentials, the region and the endpoint of `AWS_PROFILE`, or of `default`, from `~/.aws/credentials`
//! and `~/.aws/config`, for what the variables do not say.
//! Invariant: a variable outranks a file, as it does for Amazon's own programs. A file that is missing or cannot be
//! read says nothing.
//! Must not know: what the settings are for.

use std::path::PathBuf;

use ini::Ini;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

/// The settings that are read, and what they are called in the files.
const SETTINGS: [(AmazonS3ConfigKey, &str); 5] = [
    (AmazonS3ConfigKey::AccessKeyId, "aws_access_key_id"),
    (AmazonS3ConfigKey::SecretAccessKey, "aws_secret_access_key"),
    (AmazonS3ConfigKey::Token, "aws_session_token"),
    (AmazonS3ConfigKey::DefaultRegion, "region"),
    (AmazonS3ConfigKey::Endpoint, "endpoint_url"),
];

/// Adds to a builder what the profile says and the variables do not.
pub fn complete(mut builder: AmazonS3Builder) -> AmazonS3Builder {
    let profile = variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    let credentials = file("AWS_SHARED_CREDENTIALS_FILE", "credentials");
    let config = file("AWS_CONFIG_FILE", "config");
    // A key and its secret belong together, so that none is mixed from two places.
    let has_key = builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId).is_some();
    let in_config = if profile == "default" { profile.clone() } else { format!("profile {profile}") };
    for (key, name) in SETTINGS {
        let is_credential = name.starts_with("aws_");
        if builder.get_config_value(&key).is_some() || (is_credential && has_key) {
            continue;
        }
        let value = |ini: &Option<Ini>, section: &str| {
            Some(ini.as_ref()?.section(Some(section))?.get(name)?.trim().to_owned())
        };
        if let Some(value) = value(&credentials, &profile).or_else(|| value(&config, &in_config)) {
            builder = builder.with_config(key, value);
        }
    }
    builder
}

/// The endpoint that the variables or the profile say.
pub fn endpoint(builder: &AmazonS3Builder) -> Option<String> {
    [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
        .iter()
        .find_map(|key| builder.get_config_value(key))
}

fn file(named: &str, name: &str) -> Option<Ini> {
    let path = variable(named)
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".aws").join(name)));
    Ini::load_from_file(path?).ok()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
