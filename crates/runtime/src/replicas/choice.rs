//! Which of several servers calls go to: decided from what each said last.

/// What a server is, as far as is known; the later, the better to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// It does not answer.
    Away,
    /// It has not been heard yet.
    Unheard,
    /// It answers, and another one is in charge.
    Spare,
    /// It says that it is in charge.
    InCharge,
}

/// What all servers are, and the one that is called.
#[derive(Debug)]
pub(super) struct Choice {
    standings: Vec<Standing>,
    chosen: usize,
}

impl Choice {
    pub(super) fn new(servers: usize) -> Self {
        Self { standings: vec![Standing::Unheard; servers], chosen: 0 }
    }

    /// The server to call.
    pub(super) fn chosen(&self) -> usize {
        self.chosen
    }

    /// Notes what a server is now. Whoever says last that it is in charge is called: the one before may be
    /// unable to say that it is not. Answers whether that is news.
    pub(super) fn note(&mut self, server: usize, standing: Standing) -> bool {
        if std::mem::replace(&mut self.standings[server], standing) == standing {
            return false;
        }
        if standing == Standing::InCharge {
            self.chosen = server;
        } else if let Some(best) = self.standings.iter().max()
            && self.standings[self.chosen] < *best
        {
            self.chosen = self.standings.iter().position(|standing| standing == best).unwrap_or(0);
        }
        true
    }

    /// Whether the one to call is in charge.
    pub(super) fn is_in_charge(&self) -> bool {
        self.standings[self.chosen] == Standing::InCharge
    }

    /// Whether the one to call answers.
    pub(super) fn is_there(&self) -> bool {
        self.standings[self.chosen] >= Standing::Spare
    }

    /// Whether waiting would hardly change the choice.
    pub(super) fn is_settled(&self) -> bool {
        self.is_in_charge() || !self.standings.contains(&Standing::Unheard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(standings: &[Standing]) -> Choice {
        let mut choice = Choice::new(standings.len());
        for (server, standing) in standings.iter().enumerate() {
            choice.note(server, *standing);
        }
        choice
    }

    #[test]
    fn calls_go_to_the_one_in_charge_wherever_it_stands() {
        let choice = choice(&[Standing::Spare, Standing::InCharge, Standing::Away]);
        assert_eq!((choice.chosen(), choice.is_settled()), (1, true));
    }

    #[test]
    fn a_silent_one_gives_way_to_whoever_takes_charge_after_it() {
        let mut choice = choice(&[Standing::InCharge, Standing::Spare]);
        assert!(choice.note(1, Standing::InCharge));
        assert_eq!(choice.chosen(), 1);
        assert!(choice.note(0, Standing::Spare));
        assert_eq!(choice.chosen(), 1);
    }

    #[test]
    fn while_nobody_is_in_charge_one_that_answers_is_called() {
        let mut choice = choice(&[Standing::InCharge, Standing::Spare]);
        choice.note(0, Standing::Away);
        assert_eq!((choice.chosen(), choice.is_in_charge(), choice.is_there()), (1, false, true));
        choice.note(1, Standing::Away);
        assert_eq!((choice.chosen(), choice.is_there()), (1, false));
    }

    #[test]
    fn a_choice_waits_for_those_that_were_not_heard_unless_one_is_in_charge() {
        let mut choice = Choice::new(2);
        assert!(!choice.is_settled());
        choice.note(1, Standing::Spare);
        assert!(!choice.is_settled());
        choice.note(1, Standing::InCharge);
        assert!(choice.is_settled() && !choice.note(1, Standing::InCharge));
    }
}
