//! What keys do to the picture.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Up,
    Down,
    OnlyRefused,
    Pause,
    Clear,
    Help,
    Back,
}

/// What is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// The workload that is looked at alone.
    pub(super) selected: Option<String>,
    pub(super) only_refused: bool,
    pub(super) is_paused: bool,
    pub(super) has_help: bool,
}

/// What is to be done besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    Clear,
    End,
}

impl Action {
    /// None where the key does nothing.
    pub(super) fn of(key: &KeyEvent) -> Option<Self> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        match (key.code, key.modifiers) {
            (KeyCode::Char('c'), modifiers) if modifiers.contains(KeyModifiers::CONTROL) => Some(Self::Quit),
            (_, modifiers) if modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => None,
            (KeyCode::Char('q'), _) => Some(Self::Quit),
            (KeyCode::Esc, _) => Some(Self::Back),
            (KeyCode::Up | KeyCode::Char('k'), _) => Some(Self::Up),
            (KeyCode::Down | KeyCode::Char('j'), _) => Some(Self::Down),
            (KeyCode::Enter | KeyCode::Char('d'), _) => Some(Self::OnlyRefused),
            (KeyCode::Char('p' | ' '), _) => Some(Self::Pause),
            (KeyCode::Char('c'), _) => Some(Self::Clear),
            (KeyCode::Char('?' | 'h'), _) => Some(Self::Help),
            _ => None,
        }
    }
}

impl View {
    /// Does it; `workloads` are the names in the order in which they are shown.
    pub(super) fn apply(&mut self, action: Action, workloads: &[&str]) -> Then {
        match action {
            Action::Quit => return Then::End,
            Action::Back if self.has_help => self.has_help = false,
            Action::Back => return Then::End,
            Action::Clear => return Then::Clear,
            Action::OnlyRefused => self.only_refused = !self.only_refused,
            Action::Pause => self.is_paused = !self.is_paused,
            Action::Help => self.has_help = !self.has_help,
            Action::Up => {
                let above = self.place(workloads).and_then(|place| place.checked_sub(1));
                self.selected = above.and_then(|above| workloads.get(above)).map(ToString::to_string);
            }
            Action::Down => {
                let below = self.place(workloads).map_or(0, |place| place + 1);
                if let Some(below) = workloads.get(below) {
                    self.selected = Some((*below).to_owned());
                }
            }
        }
        Then::GoOn
    }

    /// Where the selected workload stands.
    pub(super) fn place(&self, workloads: &[&str]) -> Option<usize> {
        workloads.iter().position(|name| Some(*name) == self.selected.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use test_case::test_case;

    #[test_case(KeyCode::Char('q'), KeyModifiers::NONE, Some(Action::Quit); "q")]
    #[test_case(KeyCode::Esc, KeyModifiers::NONE, Some(Action::Back); "escape")]
    #[test_case(KeyCode::Char('c'), KeyModifiers::CONTROL, Some(Action::Quit); "control c")]
    #[test_case(KeyCode::Char('c'), KeyModifiers::NONE, Some(Action::Clear); "c")]
    #[test_case(KeyCode::Char('q'), KeyModifiers::CONTROL, None; "control q")]
    #[test_case(KeyCode::Char('d'), KeyModifiers::ALT, None; "alt d")]
    #[test_case(KeyCode::Char('d'), KeyModifiers::NONE, Some(Action::OnlyRefused); "d")]
    #[test_case(KeyCode::Enter, KeyModifiers::NONE, Some(Action::OnlyRefused); "enter")]
    #[test_case(KeyCode::Char('k'), KeyModifiers::NONE, Some(Action::Up); "k")]
    #[test_case(KeyCode::Down, KeyModifiers::NONE, Some(Action::Down); "down")]
    #[test_case(KeyCode::Char('?'), KeyModifiers::SHIFT, Some(Action::Help); "question mark")]
    #[test_case(KeyCode::Char('p'), KeyModifiers::NONE, Some(Action::Pause); "p")]
    #[test_case(KeyCode::Char('x'), KeyModifiers::NONE, None; "another")]
    #[test_case(KeyCode::F(1), KeyModifiers::NONE, None; "a function key")]
    fn keys_are_understood(code: KeyCode, modifiers: KeyModifiers, expected: Option<Action>) {
        assert_eq!(Action::of(&KeyEvent::new(code, modifiers)), expected);
        let released = KeyEvent::new_with_kind(code, modifiers, KeyEventKind::Release);
        assert_eq!(Action::of(&released), None);
    }

    #[test]
    fn the_selection_goes_from_all_through_the_workloads_and_back() {
        let mut view = View::default();
        let names = ["a", "b"];
        for (action, expected) in [
            (Action::Up, None),
            (Action::Down, Some("a")),
            (Action::Down, Some("b")),
            (Action::Down, Some("b")),
            (Action::Up, Some("a")),
            (Action::Up, None),
        ] {
            assert_eq!(view.apply(action, &names), Then::GoOn);
            assert_eq!(view.selected.as_deref(), expected);
        }
        view.apply(Action::Down, &names);
        assert_eq!(view.place(&["b", "a"]), Some(1), "it stays with the workload, wherever that stands");
    }

    #[test]
    fn escape_leaves_the_help_before_it_leaves_everything() {
        let mut view = View::default();
        view.apply(Action::Help, &[]);
        assert_eq!((view.apply(Action::Back, &[]), view.has_help), (Then::GoOn, false));
        assert_eq!(view.apply(Action::Back, &[]), Then::End);
        assert_eq!((view.apply(Action::Quit, &[]), view.apply(Action::Clear, &[])), (Then::End, Then::Clear));
    }

    proptest! {
        #[test]
        fn a_switch_used_twice_is_as_before(names in prop::collection::vec("[a-c]", 0..4), at in 0..3_usize) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let action = [Action::OnlyRefused, Action::Pause, Action::Help][at];
            let mut view = View { selected: names.first().map(ToString::to_string), ..View::default() };
            let before = view.clone();
            view.apply(action, &names);
            prop_assert_ne!(&view, &before);
            view.apply(action, &names);
            prop_assert_eq!(view, before);
        }
    }
}
