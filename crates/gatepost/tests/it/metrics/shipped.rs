//! What is shipped for Prometheus and Grafana: alerts, their unit tests, a scrape configuration, a dashboard.

use super::{Scrape, lively, promtool, shipped};
use std::collections::BTreeSet;
use testkit::Dir;

#[test]
fn the_alerts_work_and_each_of_them_is_proven() {
    let dir = shipped("packaging/prometheus");
    for words in [
        &["check", "rules", "gatepost-alerts.yml"][..],
        &["test", "rules", "gatepost-alerts.test.yml"],
        &["check", "config", "--syntax-only", "scrape.example.yml"],
    ] {
        let Some((fine, said)) = promtool(&dir, words, "") else { return };
        assert!(fine, "{words:?}: {said}");
    }
    let rules = std::fs::read_to_string(dir.join("gatepost-alerts.yml")).unwrap();
    let tests = std::fs::read_to_string(dir.join("gatepost-alerts.test.yml")).unwrap();
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10);
    for alert in alerts {
        let after: Vec<&str> = tests.split(&format!("alertname: {alert}\n")).skip(1).collect();
        assert!(after.iter().any(|text| text.lines().take(3).any(|line| line.contains("exp_labels"))), "{alert} never fires");
    }
    let (gate, _backend, _on) = lively();
    only_known_figures(&rules, &Scrape::of(&gate));
}

/// Every name that looks like a figure of ours is one.
#[track_caller]
fn only_known_figures(text: &str, scrape: &Scrape) {
    let series = scrape.series();
    let names: BTreeSet<&str> = series.iter().map(|series| series.split('{').next().unwrap()).collect();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let used: BTreeSet<&str> = words.filter(|word| word.starts_with("gatepost_") || word.starts_with("process_")).collect();
    let unknown: Vec<&&str> = used.iter().filter(|word| !names.contains(**word)).collect();
    assert!(unknown.is_empty() && !used.is_empty(), "{unknown:?}");
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let text = std::fs::read_to_string(shipped("packaging/grafana/gatepost.json")).unwrap();
    let board: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut exprs = Vec::new();
    let mut ids = BTreeSet::new();
    let panels = board["panels"].as_array().unwrap();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels have one id: {panel}");
        assert!(panel["gridPos"]["w"].is_u64() && panel["title"].is_string(), "{panel}");
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{target}");
            exprs.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    for variable in board["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["query"]["query"].as_str() {
            let inner = query.strip_prefix("label_values(").and_then(|rest| rest.rsplit_once(',')).unwrap().0;
            exprs.push(inner.to_owned());
        }
    }
    assert!(exprs.len() > 20, "{}", exprs.len());
    let (gate, _backend, _on) = lively();
    only_known_figures(&exprs.join("\n"), &Scrape::of(&gate));
    let mut rules = "groups:\n  - name: board\n    rules:\n".to_owned();
    for (n, expr) in exprs.iter().enumerate() {
        let plain = expr.replace("$__rate_interval", "5m").replace("$__range", "1h");
        let plain = plain.replace("$instance", "a").replace("$protocol", "b");
        assert!(!plain.contains('$'), "{plain}");
        rules.push_str(&format!("      - record: board:{n}\n        expr: {}\n", serde_json::Value::from(plain)));
    }
    let dir = Dir::new();
    dir.write("board.yml", &rules);
    let Some((fine, said)) = promtool(dir.path(), &["check", "rules", "board.yml"], "") else { return };
    assert!(fine && said.contains(&format!("{} rules found", exprs.len())), "{said}");
}
