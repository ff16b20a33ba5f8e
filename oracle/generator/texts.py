"""Texts to train on and to predict, in several languages. All are ours."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
LABELS = ("account", "billing", "fault")
EACH = 45
"""Rows per label."""

LONG = (
    "It began with a letter that nobody in the house wanted to open. "
    + "The parcel came late and the box was broken, so I wrote to you again about the refund. " * 95
    + "In the end the lamp works, and I am happy with it!"
)
"""More tokens than either version pools."""
MEDIUM = (
    "I ordered two lamps and a chair in March. One lamp came without its plug, the other one with a broken foot; the "
    "chair has not come at all. Your colleague told me that it would be here by Friday, which it was not. My account "
    "still says 'delivered', and my card was charged twice. I would like to have the money for the chair back, a new "
    "foot for the lamp, and an answer from someone who has read this message to its end before answering it."
)
TEXTS = (
    "Where is the parcel that I ordered last week?",
    "WHY WON'T you ANSWER me? McDonald's iPhone, NASA-led (Hello) U.S. A I OK",
    "Soooooo slooooow!!!! very very very very very bad, no no no no no. aaa 1111 ha ha ha ha",
    '<br /><br />It&#39;s &amp; &quot;that&quot;&nbsp;#39; amp; \\n \\" <unk> 5 @.@ 3 @-@ 2 @,@ 1',
    MEDIUM,
    "",
    "日本語のテキスト 한국어 עברית العربية Σίσυφος İstanbul 👍👍 straße ÉCOLE Émile naïve",
    "a/b #tag \\ path https://example.com/x?y=1 me@example.com :-) e.g. can't I'll we've",
    "parcel",
    "  two   spaces\nnew line\n\nthree \t tab  ",
    "1,000.50 $5 10kg 11pm 3/4 1-2 ... 24/7 #1",
    "My Account was charged twice, the Refund has not come. " * 4,
    LONG,
)

LANGUAGES = {
    "de": ("Ich habe die Lampe gestern bestellt, z. B. wegen der Größe.", "Das Gerät ist kaputt und macht Geräusche!"),
    "fr": (
        "J'ai commandé la lampe hier, aujourd'hui elle n'est pas là.",
        "L'appareil est cassé : qu'est-ce qu'on fait ?",
    ),
    "es": ("¿Dónde está el paquete que pedí ayer?", "¡La lámpara no funciona, Sr. García!"),
    "it": ("Dov'è il pacco che ho ordinato l'altro ieri?", "La lampada dell'ufficio non funziona più."),
    "pt": ("Onde está a encomenda que fiz ontem, Sr. Silva?", "A lâmpada não funciona e está partida."),
    "nl": ("Waar is het pakket dat ik gisteren 's avonds besteld heb?", "De lamp is stuk, zo'n slechte kwaliteit."),
    "sv": ("Var är paketet som jag beställde igår, t.ex. lampan?", "Lampan är trasig och låter illa."),
    "da": ("Hvor er pakken, som jeg bestilte i går, f.eks. lampen?", "Lampen er i stykker."),
    "nb": ("Hvor er pakken jeg bestilte i går, f.eks. lampen?", "Lampen er ødelagt og bråker."),
    "fi": ("Missä on paketti, jonka tilasin eilen klo 12?", "Lamppu on rikki ja pitää ääntä."),
    "pl": ("Gdzie jest paczka, którą zamówiłem wczoraj?", "Lampa jest zepsuta, np. świeci słabo."),
    "cs": ("Kde je balík, který jsem včera objednal?", "Lampa je rozbitá a nesvítí."),
    "ro": ("Unde este coletul pe care l-am comandat ieri?", "Lampa s-a stricat și nu mai merge."),
    "hu": ("Hol van a csomag, amit tegnap rendeltem?", "A lámpa elromlott, pl. nem világít."),
    "tr": ("Dün sipariş ettiğim paket nerede? İstanbul'a gelmedi.", "Lamba bozuk, IŞIK yanmıyor."),
    "el": ("Πού είναι το δέμα που παρήγγειλα χθες;", "Η λάμπα χάλασε και δεν ανάβει."),
    "ru": ("Где посылка, которую я заказал вчера?", "Лампа сломалась и т.д., не горит."),
    "uk": ("Де посилка, яку я замовив учора?", "Лампа зламалася, м'яке світло зникло."),
    "bg": ("Къде е пратката, която поръчах вчера?", "Лампата е счупена и не свети."),
    "hi": ("मैंने कल जो पैकेज मँगवाया था वह कहाँ है?", "लैंप टूट गया है।"),
    "ar": ("أين الطرد الذي طلبته أمس؟", "المصباح مكسور ولا يعمل."),
    "he": ("איפה החבילה שהזמנתי אתמול?", "המנורה שבורה ולא עובדת."),
    "id": ("Di mana paket yang saya pesan kemarin?", "Lampu-lampu itu rusak."),
    "hr": ("Gdje je paket koji sam naručio jučer?", "Lampa je pokvarena i ne svijetli."),
    "ca": ("On és el paquet que vaig demanar ahir?", "El llum de l'oficina no funciona."),
    "xx": ("Where is the packet, o pacote, das Paket?", "The lamp n'est pas là."),
    "zh": ("我昨天订的包裹在哪里?", "灯坏了,不亮。"),
    "ja": ("昨日注文した荷物はどこですか。", "ランプが壊れています。"),
    "ko": ("어제 주문한 소포는 어디에 있나요?", "램프가 고장났어요."),
    "th": ("พัสดุที่ฉันสั่งเมื่อวานอยู่ที่ไหน", "โคมไฟเสีย"),
    "vi": ("Gói hàng tôi đặt hôm qua ở đâu?", "Đèn bị hỏng rồi."),
    "fa": ("بسته‌ای که دیروز سفارش دادم کجاست؟", "لامپ خراب است."),
    "et": ("Kus on pakk, mille eile tellisin?", "Lamp on katki."),
    "bn": ("আমি গতকাল যে প্যাকেজটি অর্ডার করেছি তা কোথায়?", "বাতিটি ভেঙে গেছে।"),
}
"""Two sentences per language, by spaCy's code."""
NEED_LIBRARIES = frozenset({"zh", "ja", "ko", "th", "vi"})
"""Languages that spaCy splits with other libraries. fastai can't add its special tokens to them."""


def training_rows() -> pd.DataFrame:
    """Return the first rows of each label of the demo's messages: columns text, label, subject, long, length."""
    rows = pd.read_csv(ROOT / "demo" / "messages.csv")
    rows = pd.concat([rows[rows["label"] == label].head(EACH) for label in LABELS]).reset_index(drop=True)
    rows["subject"] = [" ".join(text.split()[:3]).title() for text in rows["text"]]
    rows["length"] = [float(len(text)) / 100 for text in rows["text"]]
    rows["words"] = [float(len(text.split())) for text in rows["text"]]
    rows["is_long"] = rows["length"] > 1
    rows["is_question"] = ["?" in text for text in rows["text"]]
    rows["tags"] = [
        ";".join([label, *(["long"] if is_long else []), *(["question"] if asks else [])])
        for label, is_long, asks in zip(rows["label"], rows["is_long"], rows["is_question"], strict=True)
    ]
    return rows


def rows_in(language: str) -> pd.DataFrame:
    """Return training rows that also contain the sentences of a language, so that its words are in the vocabulary."""
    rows = training_rows()
    sentences = LANGUAGES.get(language, ())
    own = [{"text": sentence, "label": LABELS[i % 3]} for i, sentence in enumerate(sentences * 4)]
    return pd.concat([rows[["text", "label"]], pd.DataFrame(own)]).reset_index(drop=True) if own else rows


def texts_in(language: str) -> list[str]:
    """Return texts to predict: the common ones and those of a language, as written and in capitals."""
    sentences = LANGUAGES.get(language, ())
    return [*TEXTS, *sentences, *(sentence.upper() for sentence in sentences), " ".join(sentences)]
