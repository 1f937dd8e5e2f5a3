//! The requests of clients that are being carried out, a slice of one at a time.

use crate::control::{ApiError, Response, Work, status};
use crate::reactor::{ClientId, MAX_CLIENTS};

/// Reports that are made, or are being taken by their clients, at a time: each takes up to some 20 MiB. Further ones wait.
const MAX_REPORTS: usize = 4;

/// Requests that are being carried out at a time: one of each client, and as many changes of those that have gone.
const MAX_WORKS: usize = 2 * MAX_CLIENTS;

/// Requests that are being carried out, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Works {
    works: Vec<(ClientId, Work)>,
    /// The one that has the next slice.
    next: usize,
}

/// What came of a slice.
#[derive(Debug)]
pub(super) enum Stepped {
    /// There was nothing to do.
    Nothing,
    /// The request needs a further slice.
    Slice,
    /// It is carried out: the response.
    Done(ClientId, Box<Response>),
}

impl Works {
    /// Adds a request of `client`.
    ///
    /// # Errors
    /// If there are too many already.
    pub(super) fn add(&mut self, client: ClientId, work: Work) -> Result<(), ApiError> {
        if self.works.len() >= MAX_WORKS {
            let error = "there are too many requests under way";
            let expected =
                format!("at most {MAX_WORKS} at a time, those of clients that have gone included");
            return Err(ApiError::new(status::UNAVAILABLE, error, expected));
        }
        self.works.push((client, work));
        Ok(())
    }

    /// Forgets reports and lists of clients that have gone. What changes the lab is carried out to its end.
    pub(super) fn forget(&mut self, has_gone: impl Fn(ClientId) -> bool) {
        self.works
            .retain(|(client, work)| work.is_change() || !has_gone(*client));
    }

    /// Returns true if there is something to do, while so many clients take reports.
    pub(super) fn is_any(&self, taken: usize) -> bool {
        (0..self.works.len()).any(|index| self.may_go_on(index, taken))
    }

    /// Has `step` carry out a slice of the next request, while so many clients take reports.
    pub(super) fn step(
        &mut self,
        taken: usize,
        step: impl FnOnce(&mut Work) -> Option<Response>,
    ) -> Stepped {
        let first = self.next.min(self.works.len());
        let mut order = (first..self.works.len()).chain(0..first);
        let index = order.find(|index| self.may_go_on(*index, taken));
        let Some((index, (client, work))) =
            index.and_then(|index| Some((index, self.works.get_mut(index)?)))
        else {
            return Stepped::Nothing;
        };
        match step(work) {
            Some(response) => {
                let client = *client;
                self.works.remove(index);
                self.next = index;
                Stepped::Done(client, Box::new(response))
            }
            None => {
                self.next = index + 1;
                Stepped::Slice
            }
        }
    }

    /// Returns true if the request with that place may have a slice: it is the first of the changes, or one of the first reports.
    fn may_go_on(&self, index: usize, taken: usize) -> bool {
        let before = || self.works.iter().take(index).map(|(_, work)| work);
        match self.works.get(index) {
            Some((_, Work::Report { .. })) => {
                let reports = before().filter(|work| matches!(work, Work::Report { .. }));
                reports.count() + taken < MAX_REPORTS
            }
            Some((_, work)) if work.is_change() => !before().any(Work::is_change),
            found => found.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{ChangedVms, ListOf, Page};
    use crate::report::Format;
    use crate::vm::VmId;

    /// The places of the requests that get the next slices, each of which is the last of its request if that `is_last`.
    fn order(works: &mut Works, slices: usize, taken: usize, is_last: bool) -> Vec<char> {
        let letter = |work: &Work| match work {
            Work::Report { .. } => 'r',
            Work::List { .. } => 'l',
            Work::RemoveVms { left, .. } => {
                if left.len() == 1 {
                    'a'
                } else {
                    'b'
                }
            }
            _ => '?',
        };
        let mut order = Vec::new();
        for _ in 0..slices {
            works.step(taken, |work| {
                order.push(letter(work));
                is_last.then(|| Response::json(status::OK, Vec::new()))
            });
        }
        order
    }

    fn remove(vms: u32) -> Work {
        Work::RemoveVms {
            left: (0..vms).map(VmId).collect(),
            removed: ChangedVms::new(0, None),
        }
    }

    fn list() -> Work {
        let page = Page {
            offset: 0,
            limit: 1,
        };
        Work::List {
            list: ListOf::Vms,
            page,
            text: Vec::new(),
        }
    }

    fn report() -> Work {
        Work::Report {
            builder: Box::default(),
            format: Format::all().next().unwrap(),
        }
    }

    #[test]
    fn requests_take_turns_and_changes_are_carried_out_one_after_the_other() {
        let mut works = Works::default();
        for work in [remove(1), list(), remove(2), report()] {
            works.add(ClientId::default(), work).unwrap();
        }
        assert!(works.is_any(0));
        assert_eq!(
            order(&mut works, 6, 0, false),
            ['a', 'l', 'r', 'a', 'l', 'r']
        );
        assert_eq!(order(&mut works, 3, 0, true), ['a', 'l', 'b']);
        assert_eq!(order(&mut works, 5, 0, true), ['r']);
        assert!(!works.is_any(0));
    }

    #[test]
    fn what_a_client_that_has_gone_wanted_to_read_is_not_made_and_what_it_changes_is_done() {
        let mut works = Works::default();
        for work in [list(), remove(1), report()] {
            works.add(ClientId::default(), work).unwrap();
        }
        works.forget(|_| false);
        assert_eq!(order(&mut works, 3, 0, false), ['l', 'a', 'r']);
        works.forget(|_| true);
        assert_eq!(order(&mut works, 3, 0, true), ['a']);
    }

    #[test]
    fn changes_of_clients_that_have_gone_have_a_bound() {
        let mut works = Works::default();
        let add = |works: &mut Works| {
            let added = works.add(ClientId::default(), remove(1));
            works.forget(|_| true);
            added
        };
        for _ in 0..MAX_WORKS {
            add(&mut works).unwrap();
        }
        assert_eq!(add(&mut works).unwrap_err().status, status::UNAVAILABLE);
        assert_eq!(order(&mut works, 1, 0, true), ['a']);
        add(&mut works).unwrap();
    }

    #[test]
    fn reports_wait_for_those_that_are_made_or_taken() {
        let mut works = Works::default();
        (0..MAX_REPORTS + 3).for_each(|_| works.add(ClientId::default(), report()).unwrap());
        let mut begun = Vec::new();
        for _ in 0..20 {
            works.step(1, |work| {
                let Work::Report { builder, .. } = work else {
                    unreachable!("only reports");
                };
                let place = std::ptr::from_ref(&**builder) as usize;
                if !begun.contains(&place) {
                    begun.push(place);
                }
                None
            });
        }
        assert_eq!(begun.len(), MAX_REPORTS - 1);
        assert!(!works.is_any(MAX_REPORTS));
        works.add(ClientId::default(), list()).unwrap();
        assert_eq!(order(&mut works, 1, MAX_REPORTS, true), ['l']);
        assert!(works.is_any(MAX_REPORTS - 1));
    }
}
