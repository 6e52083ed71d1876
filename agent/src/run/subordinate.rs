//! The ids that a user's processes can have: the user's own, and those of its containers (subuid(5)).

use super::user::{Error, User};
use std::{fs, io, ops::RangeInclusive, path::Path};

const SUBUID: &str = "/etc/subuid";

/// The ids of a user that is given by name or number.
///
/// # Errors
/// There is no user of that name, or a database cannot be read.
pub fn ids_of(user: &str) -> Result<Vec<RangeInclusive<u32>>, Error> {
    let (name, uid) = match user.parse::<u32>() {
        Ok(uid) => (User::name_of(uid)?, uid),
        Err(_) => (Some(user.to_owned()), User::lookup(user)?.uid()),
    };
    let text = match fs::read(Path::new(SUBUID)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(Error::Read { database: SUBUID, source }),
    };
    let own = std::iter::once(uid..=uid);
    Ok(own.chain(ranges(&text, name.as_deref(), uid)).collect())
}

/// `NAME-OR-UID:FIRST:COUNT`.
fn ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<RangeInclusive<u32>> {
    let range = |line: &str| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let is_own = name == Some(owner) || owner.parse() == Ok(uid);
        let (first, count) =
            (fields.next()?.parse::<u32>().ok()?, fields.next()?.trim().parse::<u32>().ok()?);
        (is_own && count > 0).then(|| first..=first.saturating_add(count - 1))
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    const SUBUID: &str = "build:100000:65536\nother:165536:65536\n1000:300000:10\nbuild:5:0\nbuild:x:1\nbuild:4294967290:100\n";

    #[test_case(Some("build"), 1000, &[(100_000, 165_535), (300_000, 300_009), (4_294_967_290, u32::MAX)]; "by name and number")]
    #[test_case(Some("other"), 1001, &[(165_536, 231_071)]; "by name")]
    #[test_case(None, 1002, &[]; "nobody")]
    fn subordinate_ids_are_read(name: Option<&str>, uid: u32, expected: &[(u32, u32)]) {
        let found: Vec<(u32, u32)> =
            ranges(SUBUID, name, uid).into_iter().map(RangeInclusive::into_inner).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_number_needs_no_name() {
        assert_eq!(ids_of("4000000000").unwrap(), [4_000_000_000..=4_000_000_000]);
        assert_eq!(ids_of("root").unwrap().first(), Some(&(0..=0)));
        assert!(ids_of("no-such-user").is_err());
    }
}
