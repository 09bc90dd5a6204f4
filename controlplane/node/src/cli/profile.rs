//! Profiles on the command line: by name or file, checked against this host.

use super::CliError;
use crate::topology::{Placement, RINGS};
use roko_tuning::{HostCores, Profile, builtin};

/// Help of `--profile`, with the built-in names.
pub(super) fn profile_help() -> String {
    format!("Core-pinning profile: a file, or a built-in one ({})", roko_tuning::builtin_names())
}

pub(super) fn profile_problems(profile: &str, problems: &[String]) -> CliError {
    CliError(format!("profile \"{profile}\":\n  {}", problems.join("\n  ")))
}

/// The profile of this name or file. It makes sense by itself; whether it fits a host is not looked at.
pub(super) fn read_profile(profile: &str) -> Result<Profile, CliError> {
    let text = match builtin(profile) {
        Some(text) => text.to_owned(),
        None => std::fs::read_to_string(profile).map_err(|error| {
            let built_in = roko_tuning::builtin_names();
            CliError::with(
                format!("profile \"{profile}\" is neither built in ({built_in}) nor a file"),
                error,
            )
        })?,
    };
    let parsed = Profile::parse(&text).map_err(|e| e.iter().map(ToString::to_string).collect::<Vec<_>>());
    let parsed = parsed.map_err(|problems| profile_problems(profile, &problems))?;
    let problems: Vec<String> = parsed.validate_rings(&ring_keys()).iter().map(ToString::to_string).collect();
    if problems.is_empty() { Ok(parsed) } else { Err(profile_problems(profile, &problems)) }
}

/// The keys of `[rings]` that this node has rings for.
fn ring_keys() -> Vec<&'static str> {
    let mut keys: Vec<&str> = RINGS.iter().map(|ring| ring.depth_key).filter(|key| !key.is_empty()).collect();
    keys.dedup();
    keys
}

/// The profile of this name or file, checked against this host.
pub fn placement(profile: &str) -> Result<Placement, CliError> {
    let parsed = read_profile(profile)?;
    let host = HostCores::detect().map_err(|error| CliError::with("the cores of this host", error))?;
    let problems: Vec<String> = parsed.validate(&host).iter().map(ToString::to_string).collect();
    if !problems.is_empty() {
        return Err(profile_problems(profile, &problems));
    }
    let allowed = roko_os::affinity::allowed_cores().map_err(|error| CliError::with("affinity", error))?;
    Ok(Placement::new(parsed, allowed))
}
