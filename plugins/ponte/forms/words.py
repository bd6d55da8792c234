"""What a form says, in each language that it speaks; and which of them a browser asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

#: The first one is spoken where a browser asks for none of them.
Language = Literal["en", "pt"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

#: Text → what it is in each language, in the order of LANGUAGES. What stands in braces is filled in.
_TEXTS: Mapping[str, tuple[str, str]] = {
    "ask": ("Ask", "Perguntar"),
    "ask_again": ("Change something and ask again", "Mudar algo e perguntar de novo"),
    "answer": ("Answer", "Resposta"),
    "error_title": ("Error", "Erro"),
    "problems": ("Please look at these fields", "Por favor, veja estes campos"),
    "based_on": ("What this answer is based on", "Em que esta resposta se baseia"),
    "left_empty": ("left empty", "em branco"),
    "may_be_empty": ("may be left empty", "pode ficar em branco"),
    "nothing": ("not known", "não sei"),
    "choose": ("please choose", "escolha"),
    "yes": ("yes", "sim"),
    "no": ("no", "não"),
    "other": ("none of these", "nenhum destes"),
    "other_value": ("which, then?", "qual, então?"),
    "usual": ("usually {low} to {high}", "em geral de {low} a {high}"),
    "usual_one": ("usually {low}", "em geral {low}"),
    "in_utc": ("date and time in UTC", "data e hora em UTC"),
    "version": ("version", "versão"),
    "request": ("request", "pedido"),
    "exactly": ("more exactly {value}", "mais exatamente {value}"),
    "of_model": (
        "An estimate by a model that learned from past cases. It can be wrong.",
        "Uma estimativa de um modelo que aprendeu com casos passados. Pode estar errada.",
    ),
    # Answers; a card may say its own.
    "value": ("About {value}.", "Cerca de {value}."),
    "interval": (
        "For {share} cases like these it lies between {low} and {high}.",
        "Em {share} casos como estes fica entre {low} e {high}.",
    ),
    "share": ("{count} of {all}", "{count} de cada {all}"),
    "class": ("{class}", "{class}"),
    "very_likely": ("very likely", "muito provável"),
    "likely": ("likely", "provável"),
    "rather_likely": ("more likely than not", "mais provável que não"),
    "even": ("about as likely as not", "tão provável quanto não"),
    "possible": ("possible", "possível"),
    "unlikely": ("unlikely", "pouco provável"),
    "below_1": ("less than 1 %", "menos de 1 %"),
    "above_99": ("more than 99 %", "mais de 99 %"),
    "all_classes": ("How likely each answer is", "A probabilidade de cada resposta"),
    # Feedback.
    "was_right": ("Was this right?", "Isto estava certo?"),
    "was_right_of": ("Was the answer to this request right?", "A resposta a este pedido estava certa?"),
    "is_right": ("yes, it was right", "sim, estava certo"),
    "is_wrong": ("no, it was wrong", "não, estava errado"),
    "correct_label": ("What would have been right?", "Qual seria a resposta certa?"),
    "comment": ("Anything else?", "Algo mais?"),
    "if_known": ("if you know", "se souber"),
    "send": ("Send", "Enviar"),
    "later": ("Say it later: keep this address", "Dizer mais tarde: guarde este endereço"),
    "thanks": ("Thank you. It was kept with the answer.", "Obrigado. Ficou guardado com a resposta."),
    "said_before": (
        "Enough was said about this answer already.",
        "Já se disse o bastante sobre esta resposta.",
    ),
    "no_such_answer": (
        "No such answer is kept, or not yet. Please try again in a few seconds.",
        "Esta resposta não está guardada, ou ainda não. Por favor, tente de novo em alguns segundos.",
    ),
    "not_kept": (
        "This was not kept. Is what would have been right really another answer?",
        "Isto não foi guardado. O que estaria certo é mesmo outra resposta?",
    ),
    "say_verdict": ("say whether it was right", "diga se estava certo"),
    "too_long": ("at most {most} characters", "no máximo {most} caracteres"),
    "back": ("Back to the form", "Voltar ao formulário"),
    # The key.
    "key": ("Key", "Chave"),
    "key_why": (
        "This form is for people with a key. It is kept in this browser until you forget it.",
        "Este formulário é para quem tem uma chave. Ela fica neste navegador até ser esquecida.",
    ),
    "key_wrong": ("this key does not open the form", "esta chave não abre o formulário"),
    "use_key": ("Continue", "Continuar"),
    "forget_key": ("Forget the key", "Esquecer a chave"),
    # What is wrong with a value: at its field.
    "needed": ("please fill this in", "preencha este campo"),
    "no_number": (
        "a number, for example {example}",
        "um número, por exemplo {example}",
    ),
    "no_whole": ("a whole number, without a part after the point", "um número inteiro, sem casas decimais"),
    "too_large": ("this number is too large", "este número é grande demais"),
    "no_choice": ("please choose one of the list", "escolha um da lista"),
    "no_date": ("a day, for example 2026-03-31", "um dia, por exemplo 2026-03-31"),
    "no_moment": (
        "a day and a time in UTC, for example 2026-03-31T14:30",
        "um dia e uma hora em UTC, por exemplo 2026-03-31T14:30",
    ),
    "no_text": ("a character in this text cannot be kept", "um caractere deste texto não pode ser guardado"),
    "not_taken": ("the model cannot use this value", "o modelo não pode usar este valor"),
    # What stands on a page of its own.
    "not_found": ("There is no such form", "Este formulário não existe"),
    "not_ready": ("There is no answer to be had yet", "Ainda não há respostas"),
    "not_ready_why": (
        "No version of this model is in use. Please come back later.",
        "Nenhuma versão deste modelo está em uso. Por favor, volte mais tarde.",
    ),
    "too_many": ("Too many questions", "Perguntas demais"),
    "wait": ("Please wait {seconds} s and ask again.", "Por favor, espere {seconds} s e pergunte de novo."),
    "busy": (
        "Many are asking just now. Please ask again in {seconds} s.",
        "Há muitas perguntas neste momento. Por favor, pergunte de novo em {seconds} s.",
    ),
    "no_answer": (
        "The model has no answer for these values. Please look at them again.",
        "O modelo não tem resposta para estes valores. Por favor, veja-os de novo.",
    ),
    "too_old": (
        "This page was too old, or did not come from here. Nothing was asked; please press the button again.",
        "Esta página era antiga demais, ou não veio daqui. Nada foi perguntado; carregue de novo no botão.",
    ),
    "not_read": ("This cannot be read", "Isto não pode ser lido"),
    "not_read_why": (
        "What was sent is too large, or is no form.",
        "O que foi enviado é grande demais, ou não é um formulário.",
    ),
    "failed": ("Something went wrong here", "Algo correu mal aqui"),
    "failed_why": (
        "It is not your fault. Please try again later.",
        "A culpa não é sua. Por favor, tente mais tarde.",
    ),
}


def say(text: str, language: Language, **parts: str) -> str:
    """Return a text in a language, with its parts filled in."""
    return fill(_TEXTS[text][LANGUAGES.index(language)], **parts)


def fill(template: str, **parts: str) -> str:
    """Return the template with each `{name}` of the parts filled in; what else stands in braces stays.

    >>> fill("{low} to {high} {other}", low="1", high="{low}")
    '1 to {low} {other}'
    """
    pieces, rest = [], template
    while rest:
        before, brace, rest = rest.partition("{")
        name, end, after = rest.partition("}")
        pieces.append(before)
        if brace and end and name in parts:
            pieces.append(parts[name])
            rest = after
        else:
            pieces.append(brace)
    return "".join(pieces)


def language_of(accept_language: str) -> Language:
    """Return the language that a browser's header asks for most; the first of LANGUAGES when it asks for none.

    >>> language_of("de, pt-BR;q=0.8, en;q=0.5"), language_of("*"), language_of("pt;q=0, nonsense;;q=x")
    ('pt', 'en', 'en')
    """
    wanted: dict[Language, float] = {}
    for part in accept_language[:1000].split(","):
        tag, _, weight = part.partition(";")
        name = tag.strip().lower().partition("-")[0]
        for language in LANGUAGES:
            if name == language:
                wanted[language] = max(wanted.get(language, 0.0), _weight(weight))
    best = max(wanted, key=lambda language: wanted[language], default=LANGUAGES[0])
    return best if wanted.get(best) else LANGUAGES[0]


def _weight(text: str) -> float:
    name, _, value = text.replace(" ", "").partition("=")
    if not name:
        return 1.0
    try:
        weight = float(value) if name == "q" else 1.0
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
