"""Teaching: what the notebooks share. Exercises with checks, predictions, reduced sizes, glossary.

No lesson lives here: the text, the figures and the questions are the notebooks'.

In a notebook, three cells make an exercise. The first (tag ``exercise``) has dots to replace, the
second (tag ``check``) answers at once, the third (tag ``solution``, folded) never overwrites the
reader's names, so that a run from top to bottom tests every solution::

    words_at_rank_10 = ...

    check("quick_start.words", words_at_rank_10)

    # Solution
    assert check("quick_start.words", 10 * (150 + 784 + 1))

(A folded cell shows its first line, so that line gives nothing away.)

What the check says lives in ``toolkit/teaching/checks/<topic>.py``, imported when an exercise of
that topic is checked; a new module is a new set of exercises, with nothing to register::

    from toolkit.teaching.exercises import Wrong, close, exercise, wrong

    @exercise("quick_start.words")
    def words(answer: float) -> str | Wrong:
        if close(answer, 10 * (150 + 784)):
            return wrong("That is left and right. There is a third factor: what is its length?")
        if not close(answer, 9350):
            return wrong("Count one direction first: a column of left, one of right, a sigma.")
        return "A full gradient would take 117,600: twelve times as many."

- Right is ``None``, or a closing sentence that says what the result means. Anything else is
  ``wrong("a hint that names what to look at, never the solution")``.
- An answer may be a function. The check calls it on inputs that it makes itself, from a seed. One
  that returns nothing (its body still ``...``) counts as unanswered.
- Whatever is raised while checking becomes a hint that shows the error: a check needs no ``try``
  and no test of types.
- What depends on the reader's own run is handed over by name, ``check("quick_start.first_step",
  answer, tree=tree)``, and arrives as a keyword-only argument of the exercise.
- Compare numbers and arrays (numpy or torch) by ``close``: false for another shape and for NaN.

A prediction is asked for in one cell and shown beside the result in a later one::

    loss = predict("How many points will it lose?", low=0, high=20, unit="points")
    loss                                     # a slider; loss.value is where it stands
    loss.beside(measured)                    # "You said 10 points; measured: 0.4 points."
    predict("Which is cheaper?", options=["rows", "columns"])

``fast(20, 3)`` is 20 for a reader and 3 in the tests, which set ``TOOLKIT_FAST``.

Tests of a topic: every right answer passes, two or more typical wrong ones each get their own hint,
``...`` counts as unanswered.
"""

from toolkit.teaching.exercises import Verdict, Wrong, check, close, exercise, wrong
from toolkit.teaching.prediction import Prediction, predict
from toolkit.teaching.sizes import fast

__all__ = [
    "Prediction",
    "Verdict",
    "Wrong",
    "check",
    "close",
    "exercise",
    "fast",
    "predict",
    "wrong",
]
