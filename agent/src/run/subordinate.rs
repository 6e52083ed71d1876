//! The ids that a user's processes can have: the user's own, and those of its containers (subuid(5)).

use super::user::{Error, User, members};
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

/// The ids of a group's members, by name or number: whose own group it is, and who is listed in it.
///
/// # Errors
/// There is no group of that name, or a database cannot be read.
pub fn ids_of_group(group: &str) -> Result<Vec<RangeInclusive<u32>>, Error> {
    let ids: Result<Vec<_>, _> = members(group)?.iter().map(|member| ids_of(member)).collect();
    Ok(ids?.concat())
}

/// The ids that are in a range of each.
pub fn both(one: &[RangeInclusive<u32>], other: &[RangeInclusive<u32>]) -> Vec<RangeInclusive<u32>> {
    let overlap = |one: &RangeInclusive<u32>, other: &RangeInclusive<u32>| {
        let common = *one.start().max(other.start())..=*one.end().min(other.end());
        (!common.is_empty()).then_some(common)
    };
    one.iter().flat_map(|one| other.iter().filter_map(move |other| overlap(one, other))).collect()
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
    fn a_group_is_its_members_by_name_or_number() {
        assert_eq!(ids_of_group("root").unwrap().first(), Some(&(0..=0)));
        assert_eq!(ids_of_group("0").unwrap().first(), Some(&(0..=0)));
        assert!(ids_of_group("no-such-group").is_err());
    }

    #[test]
    fn ids_that_two_keys_name_are_those_of_both() {
        assert_eq!(both(&[0..=10, 20..=30], &[5..=22, 25..=25]), [5..=10, 20..=22, 25..=25]);
        assert!(both(&[0..=10], &[11..=20]).is_empty());
    }

    #[test]
    fn a_number_needs_no_name() {
        assert_eq!(ids_of("4000000000").unwrap(), [4_000_000_000..=4_000_000_000]);
        assert_eq!(ids_of("root").unwrap().first(), Some(&(0..=0)));
        assert!(ids_of("no-such-user").is_err());
    }
}
