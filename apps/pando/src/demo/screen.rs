// SPDX-License-Identifier: BSD-3-Clause
//! The live one-screen view: nodes, roles, leader, operations per second, events as they happen.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};

use super::PERIOD;
use super::watch::{NodeView, Watch};

/// Events that are kept; the screen shows as many of the last ones as fit.
const EVENTS_MAX: usize = 200;

/// Draws until a signal, `q` or Ctrl-C.
///
/// # Errors
/// As the terminal says.
pub fn run(addresses: &[String], stop: &AtomicBool) -> Result<(), String> {
    let mut terminal = ratatui::try_init().map_err(|error| error.to_string())?;
    let mut watch = Watch::new(addresses.to_vec());
    let mut events = VecDeque::new();
    let mut result = Ok(());
    while !stop.load(Ordering::Relaxed) {
        events.extend(watch.look());
        while events.len() > EVENTS_MAX {
            events.pop_front();
        }
        let drawn = terminal.draw(|frame| draw(frame, &watch, &events));
        let asked = drawn.map_err(|error| error.to_string()).and_then(|_| asked_to_quit());
        match asked {
            Ok(false) => {}
            Ok(true) => break,
            Err(reason) => {
                result = Err(reason);
                break;
            }
        }
    }
    ratatui::restore();
    result
}

/// Waits for one period, or less when a key is pressed.
fn asked_to_quit() -> Result<bool, String> {
    if !event::poll(PERIOD).map_err(|error| error.to_string())? {
        return Ok(false);
    }
    let Event::Key(key) = event::read().map_err(|error| error.to_string())? else { return Ok(false) };
    let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    Ok(key.kind == KeyEventKind::Press && (interrupt || key.code == KeyCode::Char('q')))
}

fn draw(frame: &mut Frame, watch: &Watch, events: &VecDeque<String>) {
    let view = watch.view();
    let height = view.nodes.len() as u16 + 3;
    let [head, nodes, log, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(height),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let title = format!(" Pando   topology version {}   root term {}   {}", view.version, view.term, watch.summary());
    frame.render_widget(Line::styled(title, Style::new().add_modifier(Modifier::BOLD)), head);
    let header = ["node", "id", "role", "root", "slots", "keys", "ops/s", "offset", "health"];
    let widths = [17, 9, 17, 7, 13, 9, 9, 12, 9].map(Constraint::Length);
    let rows = view.nodes.iter().map(|node| row(node, &view.nodes));
    let table = Table::new(rows, widths)
        .header(Row::new(header).style(Style::new().fg(Color::DarkGray)))
        .block(Block::bordered().title(" nodes "));
    frame.render_widget(table, nodes);
    let visible = usize::from(log.height.saturating_sub(2));
    let lines: Vec<Line> =
        events.iter().skip(events.len().saturating_sub(visible)).map(|event| Line::raw(event.as_str())).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" what happens ")), log);
    let hint = " q or Ctrl-C stops everything; kill -9 a primary in another terminal to see a failover";
    frame.render_widget(Line::styled(hint, Style::new().fg(Color::DarkGray)), foot);
}

fn row<'a>(node: &'a NodeView, all: &'a [NodeView]) -> Row<'a> {
    let role = if node.primary {
        "primary".to_owned()
    } else {
        let of = all.iter().find(|other| other.id == node.of);
        let port = of.and_then(|other| other.address.rsplit(':').next()).unwrap_or("?");
        format!("replica of {port}")
    };
    let (health, color) = match (node.up, node.healthy) {
        (false, _) => ("down", Color::Red),
        (true, false) => ("not ok", Color::Yellow),
        (true, true) => ("ok", Color::Green),
    };
    let leads = if node.leads { "leader" } else { "" };
    Row::new([
        Cell::from(node.address.as_str()),
        Cell::from(node.id.get(..8).unwrap_or_default()),
        Cell::from(role),
        Cell::from(leads),
        Cell::from(node.slots.as_str()),
        Cell::from(node.keys.to_string()),
        Cell::from(node.ops_per_s.to_string()),
        Cell::from(node.offset.to_string()),
        Cell::from(health).style(Style::new().fg(color)),
    ])
}
