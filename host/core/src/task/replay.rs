//! Going on after a restart with changes in memory that the store has not applied.

use super::{Stage, Task};
use crate::change;
use crate::keyed;
use crate::row::{self, Corrupt, Name};

/// What [`Task::replay`] begins.
pub struct Replay<'a>(&'a mut Task);

impl Task {
    /// Begins to take changes into memory that the changelog has and the store does not: before the
    /// first step, after a restart. All of them belong to the epoch before the one that the stages
    /// start with.
    pub fn replay(&mut self) -> Replay<'_> {
        self.keyed().for_each(keyed::Stage::begin_replay);
        Replay(self)
    }

    fn keyed(&mut self) -> impl Iterator<Item = &mut keyed::Stage> {
        self.stages_mut().filter_map(|stage| match stage {
            Stage::Keyed(stage) => Some(&mut **stage),
            Stage::Stateless(_) => None,
        })
    }
}

impl Replay<'_> {
    /// Takes the next pack. Returns whether there is still room; where there is not, the store has to
    /// apply the changes, and then [`Replay::give_up`] is what is left to do.
    ///
    /// # Errors
    /// [`Corrupt`] when the pack is damaged.
    pub fn take(&mut self, pack: &[u8]) -> Result<bool, Corrupt> {
        let task = &mut *self.0;
        change::merge([pack].into_iter(), |key, value| {
            let name = row::name(key)?;
            let (Name::Row { stage, .. } | Name::Map { stage, .. }) = name;
            match task.nodes.get_mut(usize::from(stage)) {
                Some(Some(Stage::Keyed(stage))) => stage.replay(name, key, value),
                _ => Err(Corrupt("a stage of the task that has state")),
            }
        })?;
        task.keyed().for_each(keyed::Stage::weigh);
        Ok(!task.is_full())
    }

    /// All packs were taken.
    pub fn end(self) {
        self.0.keyed().for_each(keyed::Stage::end_replay);
    }

    /// Forgets what was taken. The store must have applied it before: one that is empty now is taken
    /// for one that has nothing.
    pub fn give_up(self) {
        self.0.keyed().for_each(keyed::Stage::begin_anew);
    }
}
