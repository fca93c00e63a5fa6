//! What a user may do: lists of patterns, taken apart when they are read, so that a check compares a few words.

use crate::wire::NAME_BYTES_MAX;

/// The most patterns in one list: a check looks at all of them.
pub(super) const PATTERNS_MAX: usize = 64;

/// What a user may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub(super) user: Box<str>,
    /// The user's own name and what stands below it, if nothing else is written.
    pub(super) names: Option<List>,
    pub(super) join: List,
    pub(super) create: List,
    pub(super) send: List,
    pub(super) to: List,
    pub(super) all: bool,
    pub(super) watch: bool,
    pub(super) admin: bool,
}

impl Access {
    /// What is allowed to a user of whom the file says no more than the name.
    #[must_use]
    pub fn usual(user: &str) -> Self {
        Self {
            user: user.into(),
            names: None,
            join: List::Everything,
            create: List::Everything,
            send: List::Everything,
            to: List::Everything,
            all: true,
            watch: true,
            admin: false,
        }
    }

    /// What is allowed to nobody.
    pub(super) fn nothing() -> Self {
        let none = List::nothing();
        Self {
            names: Some(none.clone()),
            join: none.clone(),
            create: none.clone(),
            send: none.clone(),
            to: none,
            all: false,
            watch: false,
            ..Self::usual("")
        }
    }

    /// Whether the user's clients may have this name.
    #[must_use]
    pub fn may_be_called(&self, name: &str) -> bool {
        match &self.names {
            Some(names) => names.has(name),
            None => name.strip_prefix(&*self.user).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }

    /// Whether the user may join this room, if it is there.
    #[must_use]
    pub fn may_join(&self, room: &str) -> bool {
        self.join.has(room)
    }

    /// Whether the user may make this room by joining it; it must be allowed to join it as well.
    #[must_use]
    pub fn may_create(&self, room: &str) -> bool {
        self.create.has(room)
    }

    /// Whether the user may send to the members of this room.
    #[must_use]
    pub fn may_send(&self, room: &str) -> bool {
        self.send.has(room)
    }

    /// Whether the user may send to the client of this name.
    #[must_use]
    pub fn may_address(&self, name: &str) -> bool {
        self.to.has(name)
    }

    /// Whether [`may_address`](Self::may_address) is true of every name, so that nobody needs to ask for each frame.
    #[must_use]
    pub const fn addresses_everyone(&self) -> bool {
        matches!(self.to, List::Everything)
    }

    /// Whether the user may send to all clients at once.
    #[must_use]
    pub const fn may_send_to_all(&self) -> bool {
        self.all
    }

    /// Whether the user may be told who is here.
    #[must_use]
    pub const fn may_watch(&self) -> bool {
        self.watch
    }

    /// Whether the user may administer the relay.
    #[must_use]
    pub const fn may_administer(&self) -> bool {
        self.admin
    }
}

/// A list of patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// One of its patterns is a lone `*`.
    Everything,
    Some(Box<[Pattern]>),
}

impl List {
    /// What `-` stands for.
    fn nothing() -> Self {
        Self::Some(Box::default())
    }

    /// Reads patterns with a comma between two: `*` in one stands for any characters, a lone `-` for nothing, and what
    /// stands behind a backslash for itself.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self::nothing());
        }
        let mut patterns = Vec::new();
        let mut parts = vec![String::new()];
        let mut chars = text.chars();
        loop {
            let c = chars.next();
            let part = match c {
                None | Some(',') => {
                    patterns.push(Pattern::of(std::mem::replace(&mut parts, vec![String::new()]))?);
                    if c.is_none() {
                        break;
                    }
                    continue;
                }
                Some('-') if parts == [""] && matches!(chars.as_str().chars().next(), None | Some(',')) => {
                    // It looks as if nothing were allowed. Whoever means the name says so.
                    return Err(
                        r"has a - among others: it stands alone, for nothing; a name - is written \-, in quotes".into(),
                    );
                }
                Some('*') => {
                    parts.push(String::new());
                    continue;
                }
                Some('\\') => match chars.next() {
                    Some(c @ ('\\' | ',' | '*' | '-')) => c,
                    _ => return Err("has a backslash in front of what needs none".into()),
                },
                Some(c) => c,
            };
            if let Some(last) = parts.last_mut() {
                last.push(part);
            }
        }
        if patterns.len() > PATTERNS_MAX {
            return Err(format!("has {} patterns; {PATTERNS_MAX} are the most", patterns.len()));
        }
        let has_all = patterns.iter().any(|pattern| *pattern == Pattern::Begins("".into()));
        Ok(if has_all { Self::Everything } else { Self::Some(patterns.into()) })
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Some(patterns) => patterns.iter().any(|pattern| pattern.has(name)),
        }
    }
}

/// A pattern, by what makes a check of it cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// `news`
    Is(Box<str>),
    /// `news/*`
    Begins(Box<str>),
    /// `*/news`, `a*b*c`: what stands before the first star, between the stars, and behind the last.
    Parts(Box<[Box<str>]>),
}

impl Pattern {
    /// The pattern of which these parts have a star between two.
    fn of(parts: Vec<String>) -> Result<Self, String> {
        let letters: usize = parts.iter().map(String::len).sum();
        if letters == 0 && parts.len() == 1 {
            return Err("has an empty pattern; write - for nothing".into());
        }
        if letters > NAME_BYTES_MAX {
            return Err(format!(
                "has a pattern that is longer than any name, which has {NAME_BYTES_MAX} bytes at most"
            ));
        }
        if parts.iter().any(|part| part.chars().any(char::is_control)) {
            return Err("has a control character, which no name has".into());
        }
        let last = parts.len() - 1;
        let is_needed = |(at, part): (usize, String)| (at == 0 || at == last || !part.is_empty()).then(|| part.into());
        let parts: Vec<Box<str>> = parts.into_iter().enumerate().filter_map(is_needed).collect();
        Ok(match &parts[..] {
            [whole] => Self::Is(whole.clone()),
            [start, end] if end.is_empty() => Self::Begins(start.clone()),
            _ => Self::Parts(parts.into()),
        })
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Is(whole) => **whole == *name,
            Self::Begins(start) => name.starts_with(&**start),
            Self::Parts(parts) => has_parts(parts, name).is_some(),
        }
    }
}

/// Finds the first part at the start, the last at the end, and each of the others as early as it can be: if that fails,
/// no other place would do. The time is that of so many searches, whatever the pattern.
fn has_parts(parts: &[Box<str>], name: &str) -> Option<()> {
    let [start, middle @ .., end] = parts else { return None };
    let mut rest = name.strip_prefix(&**start)?.strip_suffix(&**end)?;
    for part in middle {
        rest = rest.split_once(&**part)?.1;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(list: &str, name: &str) -> bool {
        List::parse(list).expect(list).has(name)
    }

    /// What a star means, written down as short as can be.
    fn means(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', rest @ ..], _) => means(rest, name) || (!name.is_empty() && means(pattern, &name[1..])),
            ([p, pattern @ ..], [n, name @ ..]) => p == n && means(pattern, name),
            _ => false,
        }
    }

    #[test]
    fn a_pattern_means_what_its_stars_say() {
        let words = |length: u32, letters: &[char]| -> Vec<Vec<char>> {
            (0..letters.len().pow(length))
                .map(|number| (0..length).map(|at| letters[number / letters.len().pow(at) % letters.len()]).collect())
                .collect()
        };
        for pattern in (1..=5).flat_map(|length| words(length, &['a', 'b', '*'])) {
            let text: String = pattern.iter().collect();
            let list = List::parse(&text).expect("a pattern");
            for name in (1..=5).flat_map(|length| words(length, &['a', 'b'])) {
                let shown: String = name.iter().collect();
                assert_eq!(list.has(&shown), means(&pattern, &name), "{text} {shown}");
            }
        }
    }

    #[test]
    fn a_list_has_what_one_of_its_patterns_has() {
        assert!(has("tea,news/*", "tea") && has("tea,news/*", "news/today"));
        assert!(!has("tea,news/*", "news") && !has("tea,news/*", "teas"));
        assert!(has("*", "anything") && has("tea,*", "anything") && has("**", "x"));
        assert!(!has("-", "-") && !has("-", "") && has("-x", "-x"));
        assert_eq!(List::parse("tea,*"), Ok(List::Everything));
    }

    #[test]
    fn a_backslash_takes_the_meaning_from_what_has_one() {
        assert!(has(r"a\,b", "a,b") && !has(r"a\,b", "a"));
        assert!(has(r"\*", "*") && !has(r"\*", "x") && has(r"\-", "-") && has(r"a,\-", "-") && has(r"a\\b", r"a\b"));
    }

    #[test]
    fn a_dash_is_a_letter_unless_it_is_a_pattern_by_itself() {
        for (list, name) in [
            ("a-,-b", "a-"),
            ("a-,-b", "-b"),
            ("--,a", "--"),
            ("-*,a", "-"),
            ("a,*-", "-"),
            (r"a\,-", "a,-"),
            (r"\--,a", "--"),
            (r"\-,-a", "-"),
        ] {
            assert!(has(list, name), "{list} {name}");
        }
        assert!(!has("-*,a", "b") && !has(r"a\,-", "-"));
    }

    #[test]
    fn a_bad_list_is_told_what_is_wrong() {
        for (bad, says) in [
            ("", "empty pattern"),
            ("a,,b", "empty pattern"),
            ("a,", "empty pattern"),
            (r"a\b", "backslash"),
            ("a\\", "backslash"),
            ("-,a", "has a - among others"),
            ("a,-", "has a - among others"),
            ("*,-", "has a - among others"),
            ("-,-", "has a - among others"),
            ("a\u{7}", "control character"),
            (&"x".repeat(65), "longer than any name"),
            (&"x,".repeat(64).replace("x,x", "x,y"), "empty pattern"),
            (&format!("{}x", "x,".repeat(64)), "65 patterns"),
        ] {
            assert!(List::parse(bad).is_err_and(|why| why.contains(says)), "{bad}: {:?}", List::parse(bad));
        }
        assert!(List::parse(&format!("{}*", "x".repeat(64))).is_ok());
    }

    #[test]
    fn a_user_has_its_own_name_and_what_stands_below_it() {
        let access = Access::usual("ada");
        assert!(access.may_be_called("ada") && access.may_be_called("ada/phone"));
        assert!(!access.may_be_called("adam") && !access.may_be_called("Ada") && !access.may_be_called("eve"));
        assert!(access.addresses_everyone() && access.may_send_to_all() && access.may_watch());
        assert!(access.may_join("x") && access.may_create("x") && access.may_send("x") && access.may_address("x"));
        assert!(!access.may_administer());
    }

    #[test]
    fn nobody_may_do_nothing() {
        let access = Access::nothing();
        assert!(!access.may_be_called("") && !access.may_be_called("x") && !access.addresses_everyone());
        assert!(!access.may_join("x") && !access.may_create("x") && !access.may_send("x") && !access.may_address("x"));
        assert!(!access.may_send_to_all() && !access.may_watch() && !access.may_administer());
    }
}
