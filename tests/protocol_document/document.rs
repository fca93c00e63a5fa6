//! Reading `docs/PROTOCOL.md`: its tables, its fenced blocks and its prose.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// A table with the heading that it stands under.
pub(crate) struct Table {
    pub(crate) heading: String,
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// A fenced block with the heading that it stands under.
pub(crate) struct Block {
    pub(crate) heading: String,
    pub(crate) language: String,
    pub(crate) text: String,
}

#[derive(Default)]
pub(crate) struct Document {
    pub(crate) headings: Vec<String>,
    pub(crate) tables: Vec<Table>,
    pub(crate) blocks: Vec<Block>,
    /// Everything outside of fenced blocks.
    pub(crate) prose: String,
}

pub(crate) fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn document() -> Document {
    let text = file("docs/PROTOCOL.md");
    let mut document = Document::default();
    let mut heading = String::new();
    let mut block: Option<Block> = None;
    let mut in_table = false;
    for line in text.lines() {
        if let Some(fence) = line.strip_prefix("```") {
            match block.take() {
                Some(done) => document.blocks.push(done),
                None => {
                    block = Some(Block { heading: heading.clone(), language: fence.to_owned(), text: String::new() });
                }
            }
            continue;
        }
        if let Some(block) = &mut block {
            block.text.push_str(line);
            block.text.push('\n');
            continue;
        }
        document.prose.push_str(line);
        document.prose.push('\n');
        if line.starts_with('#') {
            line.trim_start_matches('#').trim().clone_into(&mut heading);
            document.headings.push(heading.clone());
        }
        let row = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
        let Some(row) = row else {
            in_table = false;
            continue;
        };
        let cells: Vec<String> = row.split('|').map(|cell| cell.trim().to_owned()).collect();
        match document.tables.last_mut() {
            Some(table) if in_table => table.rows.push(cells),
            _ => document.tables.push(Table { heading: heading.clone(), header: cells, rows: Vec::new() }),
        }
        in_table = true;
    }
    assert!(block.is_none(), "a fence is not closed");
    for table in &mut document.tables {
        let rule = table.rows.remove(0);
        assert!(rule.iter().all(|cell| cell == "---"), "{}: a table without a rule: {rule:?}", table.heading);
        for row in &table.rows {
            assert_eq!(row.len(), table.header.len(), "{}: a row with other columns: {row:?}", table.heading);
        }
    }
    document
}

impl Document {
    /// The tables whose header row begins with `header`.
    pub(crate) fn tables_of<'a>(&'a self, header: &'a [&'a str]) -> impl Iterator<Item = &'a Table> {
        self.tables
            .iter()
            .filter(move |table| table.header.iter().zip(header).filter(|(a, b)| a == b).count() == header.len())
    }

    /// Number and name of each row of the tables that begin with `header`; neither may stand twice.
    pub(crate) fn numbers(&self, header: &[&str]) -> BTreeMap<u64, String> {
        let mut numbers = BTreeMap::new();
        let mut names = BTreeSet::new();
        for row in self.tables_of(header).flat_map(|table| &table.rows) {
            assert!(names.insert(row[1].clone()), "{header:?}: {} stands twice", row[1]);
            let twice = numbers.insert(number(&row[0]), row[1].clone());
            assert!(twice.is_none(), "{header:?}: {} stands twice", row[0]);
        }
        numbers
    }

    /// The names and bytes of all hex blocks, with their headings.
    pub(crate) fn examples(&self) -> Vec<(String, String, Vec<u8>)> {
        let mut examples = Vec::new();
        for block in self.blocks.iter().filter(|block| block.language == "hex") {
            let title = block.text.lines().next().and_then(|line| line.strip_prefix("# "));
            let (name, _) = title.and_then(|title| title.split_once(':')).expect("a block begins with `# name: title`");
            examples.push((block.heading.clone(), name.to_owned(), bytes_of(&block.text)));
        }
        examples
    }

    /// The frames of a conversation, `talk` or `login`, in order: who sends it, who receives it, its bytes.
    pub(crate) fn conversation(&self, name: &str) -> Vec<(String, String, Vec<u8>)> {
        let mut frames = Vec::new();
        for block in &self.blocks {
            let title = block.text.strip_prefix("# ").and_then(|text| text.strip_prefix(name)?.strip_prefix('-'));
            let Some(title) = title else { continue };
            let words: Vec<&str> = title.split_whitespace().take(4).collect();
            let [_, from, "to", to] = words[..] else { panic!("{name}-{title} does not say who speaks to whom") };
            frames.push((from.to_owned(), to.trim_end_matches([':', ';']).to_owned(), bytes_of(&block.text)));
        }
        frames
    }
}

/// A number as the document writes it: `0x1F`, `1,024`.
pub(crate) fn number(text: &str) -> u64 {
    let plain = text.replace(',', "");
    let parsed = match plain.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => plain.parse(),
    };
    parsed.unwrap_or_else(|error| panic!("{text:?} in a table: {error}"))
}

/// The bytes of a hex block: everything behind `#` or `;` on a line is a comment.
pub(crate) fn bytes_of(block: &str) -> Vec<u8> {
    let code = block.lines().filter_map(|line| line.split(['#', ';']).next());
    code.flat_map(str::split_whitespace)
        .map(|byte| {
            assert_eq!(byte.len(), 2, "{byte:?} is not a byte");
            u8::from_str_radix(byte, 16).expect("two hexadecimal digits")
        })
        .collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x} ");
        text
    })
}

/// The names of the constants that lines beginning with `prefix` define, with their types.
pub(crate) fn constants_in(source: &str, prefix: &str, type_name: Option<&str>) -> BTreeSet<String> {
    let lines = source.lines().filter_map(|line| line.strip_prefix(prefix));
    let pairs = lines.filter_map(|line| line.split_once(": "));
    pairs
        .filter(|(name, rest)| !name.contains(' ') && type_name.is_none_or(|t| rest.split(' ').next() == Some(t)))
        .map(|(name, _)| name.to_owned())
        .collect()
}
