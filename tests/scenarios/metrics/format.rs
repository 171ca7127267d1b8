//! A strict reader of the text format of Prometheus, version 0.0.4.
//!
//! Owns: what is a family, a sample and a histogram, and what each must keep to. Does not know:
//! which metrics there are. What the format allows and this library does not write is refused:
//! timestamps, untyped families, summaries, and families in pieces.

use std::collections::BTreeMap;

pub type Labels = BTreeMap<String, String>;

#[derive(Debug, Default)]
pub struct Family {
    pub of_type: String,
    /// By the whole name and the labels.
    pub samples: BTreeMap<(String, Labels), f64>,
}

/// Reads a text.
pub fn read(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let mut lines = text.lines().peekable();
    if !text.ends_with('\n') {
        return Err("the last line does not end".to_owned());
    }
    while let Some(line) = lines.next() {
        let wrong = |what: &str| format!("{what}: {line:?}");
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').ok_or(wrong("no help"))?;
            let next = lines.next().ok_or(wrong("no type"))?;
            let of_type = next.strip_prefix(&format!("# TYPE {name} "));
            let of_type = of_type.ok_or(wrong("no type follows"))?;
            if !is_name(name) || help.is_empty() || help.contains('\\') {
                return Err(wrong("a bad help"));
            }
            if !["counter", "gauge", "histogram"].contains(&of_type) {
                return Err(format!("a bad type: {next:?}"));
            }
            let family = Family {
                of_type: of_type.to_owned(),
                ..Family::default()
            };
            if families.insert(name.to_owned(), family).is_some() {
                return Err(wrong("a family comes twice"));
            }
            current = name.to_owned();
        } else {
            let (name, labels, value) = sample(line).ok_or(wrong("no sample"))?;
            let family = families.get_mut(&current).ok_or(wrong("of no family"))?;
            let suffix = name.strip_prefix(&current).ok_or(wrong("of another"))?;
            let suffixes: &[&str] = match &*family.of_type {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            if !suffixes.contains(&suffix) {
                return Err(wrong("a bad suffix"));
            }
            if family.of_type == "counter" && value < 0.0 {
                return Err(wrong("a counter below zero"));
            }
            if family.samples.insert((name, labels), value).is_some() {
                return Err(wrong("a series comes twice"));
            }
        }
    }
    for (name, family) in &families {
        if family.of_type == "counter" && !name.ends_with("_total") {
            return Err(format!("{name} is a counter and its name does not say so"));
        }
        if family.of_type == "histogram" {
            check_histograms(name, family)?;
        }
    }
    Ok(families)
}

fn is_name(name: &str) -> bool {
    let first = |letter: char| letter.is_ascii_alphabetic() || letter == '_';
    name.starts_with(first) && name.chars().all(|it| first(it) || it.is_ascii_digit())
}

/// Reads `name{label="value",..} number`.
fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let (name, rest) = line.split_once('{')?;
    let mut labels = Labels::new();
    let mut rest = rest;
    loop {
        let (label, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next()? {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match letters.next()?.1 {
                    'n' => '\n',
                    '\\' => '\\',
                    '"' => '"',
                    _ => return None,
                }),
                (_, letter) => value.push(letter),
            }
        };
        if !is_name(label) || labels.insert(label.to_owned(), value).is_some() {
            return None;
        }
        match after[end..].split_at_checked(1)? {
            (",", more) => rest = more,
            ("}", number) => {
                let number = number.strip_prefix(' ')?.parse().ok()?;
                return is_name(name).then(|| (name.to_owned(), labels, number));
            }
            _ => return None,
        }
    }
}

fn check_histograms(name: &str, family: &Family) -> Result<(), String> {
    let mut all: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for ((of, labels), count) in &family.samples {
        let mut labels = labels.clone();
        if *of == format!("{name}_bucket") {
            let bound = labels.remove("le").ok_or(format!("{name}: no bound"))?;
            let bound = bound.parse().map_err(|_| format!("{name}: {bound}"))?;
            all.entry(labels).or_default().push((bound, *count));
        } else if labels.contains_key("le") {
            return Err(format!("{of} has a bound"));
        } else {
            all.entry(labels).or_default();
        }
    }
    for (labels, mut buckets) in all {
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        let of = |suffix: &str| {
            let key = (format!("{name}{suffix}"), labels.clone());
            let missing = format!("{name}{labels:?} has no {suffix}");
            family.samples.get(&key).copied().ok_or(missing)
        };
        let (sum, count) = (of("_sum")?, of("_count")?);
        let last = buckets.last().copied();
        if last != Some((f64::INFINITY, count)) {
            return Err(format!("{name}{labels:?}: its last bucket is {last:?}"));
        }
        if !buckets.is_sorted_by(|one, other| one.0 < other.0 && one.1 <= other.1) {
            return Err(format!("{name}{labels:?} is not cumulative: {buckets:?}"));
        }
        if (count == 0.0 && sum != 0.0) || sum < 0.0 {
            return Err(format!("{name}{labels:?} has the sum {sum} of {count}"));
        }
    }
    Ok(())
}

#[test]
fn what_breaks_the_format_is_refused() {
    let head = "# HELP a_total A.\n# TYPE a_total counter\n";
    let good = format!("{head}a_total{{x=\"\\\\\\\"\\n,}}\"}} 1\n");
    let read_good = read(&good).unwrap();
    let (_, labels) = read_good["a_total"].samples.keys().next().unwrap();
    assert_eq!(labels["x"], "\\\"\n,}");
    for bad in [
        "a_total{x=\"1\"} 1\n".to_owned(),
        format!("{head}a_total{{x=\"1\"}} 1"),
        format!("{head}a_total{{x=\"1\"}} one\n"),
        format!("{head}a_total{{x=\"1\"}} 1\na_total{{x=\"1\"}} 2\n"),
        format!("{head}a_total{{x=\"\\t\"}} 1\n"),
        format!("{head}a_total{{x=\"1\"y=\"2\"}} 1\n"),
        format!("{head}a_total{{x=\"a\"b\"}} 1\n"),
        format!("{head}b{{x=\"1\"}} 1\n"),
        format!("{head}{head}"),
        "# HELP a A.\n# TYPE a counter\n".to_owned(),
    ] {
        assert!(read(&bad).is_err(), "{bad:?}");
    }
    let head = "# HELP h H.\n# TYPE h histogram\n";
    let buckets = |one, all, count, sum| {
        format!(
            "{head}h_bucket{{le=\"1\"}} {one}\nh_bucket{{le=\"+Inf\"}} {all}\nh_sum{{x=\"\"}} 0\n"
        )
        .replace("{x=\"\"} 0", &format!("{{s=\"\"}} {sum}"))
        .replace("{le", "{s=\"\",le")
            + &format!("h_count{{s=\"\"}} {count}\n")
    };
    read(&buckets(1, 2, 2, 5)).unwrap();
    for (one, all, count, sum) in [(3, 2, 2, 5), (1, 2, 3, 5), (0, 0, 0, 5)] {
        assert!(read(&buckets(one, all, count, sum)).is_err());
    }
}
