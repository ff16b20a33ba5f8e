"""Short everyday texts in several languages, from which the reading direction of a model is inferred.

A model is run on them in both directions (``direction.infer``). They consist of common words in many sentences, with
capitals and punctuation where the language has them. They were written for this project and copied from nowhere.
"""

from __future__ import annotations

SAMPLE_TEXTS: dict[str, tuple[str, ...]] = {
    "en": (
        "I have seen this film three times now, and I still do not know what to think of it. The story is good, but"
        " the acting is not. It could have been one of the best movies of the year.",
        "The old man lived in a small house at the end of the road. Every morning he went down to the river to look"
        " at the boats. He had been a sailor for most of his life, and he knew all of them by name.",
        "When the war was over, the town was built up again. There is a new school now, and a library with more "
        "than a thousand books. Most of the people who live here work in the factory.",
        "She said that she would come back as soon as she could. He did not believe her, but he did not want to say"
        " so. They stood there for a long time and looked at each other.",
        "This is not a bad place to eat, if you have the time. The food is very good and the people are friendly. "
        "We had to wait for an hour before we got a table, though.",
        "What I like most about the book is the way it is written. It is about a young girl who wants to be a "
        "doctor. In the end, she has to choose between her family and her work.",
        "The first thing you see is the mountain. It is one of the highest in the country, and there is snow on it "
        "all year. In the summer, a lot of people come here to walk.",
        "He was born in a village in the north, the second of five children. After school he moved to the city, "
        "where he worked for a newspaper. He wrote his first play at the age of twenty.",
        "There are a lot of things that I would have done in a different way. It was not my idea to begin with. But"
        " at least we tried, and that is more than most of them can say.",
        "If you want to know how it works, you have to look inside. There is a small box on the left side, and a "
        "switch at the back. Do not open it while it is on.",
        "The two brothers have not talked to each other for years. Nobody knows why. Some say that it had to do "
        "with money, and others that it was about a woman.",
        "You will have to get up early in the morning to catch the train. It leaves at six and takes about four "
        "hours. I can take you to the station, if you like.",
        "A few of the songs on this record are great, but the rest of it is just boring. I had hoped for something "
        "new. Instead, they did the same thing that they have always done.",
        "It was the best game of the season. The team scored in the last minute and won by a single point. The "
        "people in the street did not go to bed until the next morning.",
        "In my opinion, the government should do more for the schools. There are too many children in one class, "
        "and not enough teachers. This has been known for a long time.",
        "The water in the lake is so clear that you can see the bottom of it. We went there with the kids on the "
        "last day of our holiday. They did not want to go home.",
        "I do not think that he is right. He has never been there himself, and he only knows what the others have "
        "told him. But he will not listen to anybody.",
        "The house has three rooms, a kitchen and a small garden. It is close to the school and not far from the "
        "shops. We have been looking for something like this for more than a year.",
        "At first nobody in the office wanted to talk about it. Then, one day, a letter came from the bank. After "
        "that, everything happened very fast.",
        "My mother used to say that you can get used to anything. I did not believe it when I was young. Now I know"
        " that she was right, as she was about so many things.",
        "This was his first film as a director, and it shows. The scenes are too long, and some of them have "
        "nothing to do with the story. Still, there are moments that you will never forget.",
        "They came to this country with nothing but a bag and the name of a friend. Ten years later, they had a "
        "shop of their own. Their children went to the university.",
        "Can you tell me how to get to the church? It is easy: go down this street until you come to the bridge, "
        "then turn left. You can see it from there.",
        "The doctor told her to stay in bed for a week. She got up on the second day. There was too much to do, and"
        " she had never been good at doing nothing.",
        "Most of the money was spent on the roads. The hospital, on the other hand, has been waiting for new "
        "windows for years. People are angry about it, and they have every reason to be.",
        "It was cold that night, and there was no moon. We could hear the sea, but we could not see it. Somebody "
        "said that we should have stayed at home.",
        "I bought this phone two months ago, and I am very happy with it. The screen is large and bright, and it is"
        " easy to use. The only thing that I do not like is the price.",
        "In the second half of the century the river was used to carry wood to the city. When the railway was "
        "built, the work came to an end. Some of the old boats can still be seen in the museum.",
        "He did not say a word during the whole meal. When it was over, he stood up, took his hat and went out. She"
        " never saw him again.",
        "If I were you, I would not worry too much about what they think. They do not know you, and you do not know"
        " them. Just do what you have to do.",
    ),
    "de": (
        "Ich habe diesen Film jetzt schon dreimal gesehen und weiß immer noch nicht, was ich davon halten soll. Die"
        " Geschichte ist gut, aber die Schauspieler sind es nicht. Es hätte einer der besten Filme des Jahres "
        "werden können.",
        "Der alte Mann wohnte in einem kleinen Haus am Ende der Straße. Jeden Morgen ging er zum Fluss hinunter, um"
        " sich die Boote anzusehen. Er war die meiste Zeit seines Lebens zur See gefahren und kannte sie alle mit "
        "Namen.",
        "Als der Krieg vorbei war, wurde die Stadt wieder aufgebaut. Heute gibt es hier eine neue Schule und viele "
        "Geschäfte. Die meisten Menschen, die hier leben, arbeiten in der Fabrik.",
        "Sie sagte, dass sie so bald wie möglich wieder kommen würde. Er glaubte ihr nicht, aber das wollte er "
        "nicht sagen. Sie standen noch lange da und sahen sich an.",
        "Was soll das denn? Das kann doch nicht wahr sein. Wir haben das alles schon einmal gehört, und es war "
        "damals auch nicht besser.",
        "Die Regierung sollte endlich mehr für die Schulen tun. Es gibt zu viele Kinder in einer Klasse und nicht "
        "genug Lehrer. Das ist seit langer Zeit bekannt, aber es ändert sich nichts.",
        "Das ist ja nett von euch, aber ich habe leider keine Zeit. Ich muss morgen sehr früh aufstehen. Vielleicht"
        " sehen wir uns am Wochenende.",
        "Wenn man so etwas liest, dann weiß man nicht mehr, was man noch glauben soll. Die einen sagen dies, die "
        "anderen sagen das. Und am Ende will es wieder keiner gewesen sein.",
        "Ich kann gar nicht so viel essen, wie ich hier möchte. Das Essen ist sehr gut und die Leute sind "
        "freundlich. Nur auf den Tisch mussten wir eine Stunde warten.",
        "Er wurde in einem Dorf im Norden geboren, als zweites von fünf Kindern. Nach der Schule zog er in die "
        "Stadt, wo er für eine Zeitung arbeitete. Mit zwanzig Jahren schrieb er sein erstes Buch.",
        "Man muss sich das einmal vorstellen: Da kommt einer und sagt, dass alles ganz anders ist. Und alle glauben"
        " ihm. Ich verstehe die Welt nicht mehr.",
        "Die beiden Brüder haben seit Jahren nicht mehr miteinander gesprochen. Keiner weiß, warum. Es soll um Geld"
        " gegangen sein, oder um eine Frau.",
        "Es war das beste Spiel des Jahres. In der letzten Minute hat die Mannschaft noch gewonnen. Die Leute auf "
        "der Straße sind erst am nächsten Morgen ins Bett gegangen.",
        "Du hast recht, aber das hilft uns jetzt auch nicht weiter. Wir müssen das Geld bis zum Ende der Woche "
        "haben. Wer soll das denn bezahlen?",
        "In Deutschland leben sehr viele Menschen, die aus anderen Ländern kommen. Viele von ihnen sind hier "
        "geboren. Sie arbeiten hier, und ihre Kinder gehen hier in die Schule.",
        "Das Wasser im See ist so klar, dass man bis auf den Grund sehen kann. Am letzten Tag sind wir mit den "
        "Kindern dort gewesen. Sie wollten gar nicht mehr nach Hause.",
        "Ich glaube nicht, dass er recht hat. Er ist selbst noch nie dort gewesen und weiß nur, was ihm die anderen"
        " erzählt haben. Aber er will ja auf keinen hören.",
        "Das Haus hat drei Zimmer, eine Küche und einen kleinen Garten. Es liegt in der Nähe der Schule und ist "
        "nicht weit von den Geschäften. So etwas haben wir seit über einem Jahr gesucht.",
        "Zuerst wollte niemand im Büro darüber sprechen. Dann kam eines Tages ein Brief von der Bank. Danach ging "
        "alles sehr schnell.",
        "Meine Mutter hat immer gesagt, dass man sich an alles gewöhnen kann. Als ich jung war, habe ich das nicht "
        "geglaubt. Heute weiß ich, dass sie recht hatte.",
        "Kann mir mal einer erklären, warum das so lange dauert? Wir warten jetzt schon seit drei Wochen auf eine "
        "Antwort. Das ist doch nicht normal.",
        "Sie kamen mit nichts als einer Tasche in dieses Land. Zehn Jahre später hatten sie ein eigenes Geschäft. "
        "Ihre Kinder gingen auf die Universität.",
        "Die meisten Politiker wissen gar nicht, wie es den Leuten geht. Sie reden nur von ihren Zahlen. Wer das "
        "ändern will, der muss zur Wahl gehen.",
        "Der Arzt hat ihr gesagt, dass sie eine Woche im Bett bleiben soll. Am zweiten Tag ist sie aufgestanden. Es"
        " gab zu viel zu tun.",
        "Ich habe nichts gegen diese Leute, aber man wird doch wohl noch seine Meinung sagen dürfen. Das war früher"
        " anders. Da konnte man noch über alles reden.",
        "Es war kalt in dieser Nacht, und man konnte den Mond nicht sehen. Wir hörten das Meer, aber wir sahen es "
        "nicht. Einer sagte, wir hätten zu Hause bleiben sollen.",
        "Ich habe mir dieses Telefon vor zwei Monaten gekauft und bin sehr zufrieden damit. Das Bild ist groß und "
        "hell. Nur der Preis hat mir nicht gefallen.",
        "In der zweiten Hälfte des Jahrhunderts wurde auf dem Fluss Holz in die Stadt gebracht. Als die Bahn gebaut"
        " wurde, war es damit vorbei. Einige der alten Boote kann man noch im Museum sehen.",
        "Er sagte während des ganzen Essens kein Wort. Als es vorbei war, stand er auf, nahm seinen Hut und ging "
        "hinaus. Sie hat ihn nie wieder gesehen.",
        "Wenn ich du wäre, würde ich mir nicht so viele Gedanken machen. Die kennen dich nicht, und du kennst sie "
        "nicht. Mach einfach, was du machen musst.",
    ),
    "fr": (
        "J'ai vu ce film trois fois et je ne sais toujours pas quoi en penser. L'histoire est bonne, mais les "
        "acteurs ne le sont pas. Cela aurait pu être un des meilleurs films de l'année.",
        "Le vieil homme habitait une petite maison au bout de la rue. Tous les matins, il descendait à la rivière "
        "pour regarder les bateaux. Il avait été marin pendant presque toute sa vie.",
        "Quand la guerre fut finie, on a reconstruit la ville. Il y a maintenant une nouvelle école et beaucoup de "
        "magasins. La plupart des gens qui vivent ici travaillent à l'usine.",
        "Elle a dit qu'elle reviendrait dès que possible. Il ne la croyait pas, mais il ne voulait pas le dire. Ils"
        " sont restés là longtemps à se regarder.",
        "Il est né dans un village du nord, le deuxième de cinq enfants. Après l'école, il est allé vivre à Paris, "
        "où il a travaillé pour un journal.",
        "Si vous avez le temps, ce n'est pas un mauvais endroit pour manger. La cuisine est très bonne et les gens "
        "sont gentils. Nous avons dû attendre une heure, quand même.",
        "Les deux frères ne se parlent plus depuis des années. Personne ne sait pourquoi. Certains disent que "
        "c'était pour de l'argent, d'autres que c'était pour une femme.",
        "C'est le plus beau jour de ma vie. Je ne pensais pas que cela pouvait encore arriver. Merci à tous ceux "
        "qui sont venus.",
    ),
    "es": (
        "He visto esta película tres veces y todavía no sé qué pensar de ella. La historia es buena, pero los "
        "actores no lo son. Podría haber sido una de las mejores del año.",
        "El viejo vivía en una casa pequeña al final de la calle. Todas las mañanas bajaba al río para mirar los "
        "barcos. Había sido marinero casi toda su vida.",
        "Cuando terminó la guerra, la ciudad fue reconstruida. Ahora hay una escuela nueva y muchas tiendas. La "
        "mayor parte de la gente que vive aquí trabaja en la fábrica.",
        "Ella dijo que volvería en cuanto pudiera. Él no la creyó, pero no quiso decirlo. Se quedaron allí mucho "
        "tiempo, sin decir nada.",
        "Nació en un pueblo del norte, el segundo de cinco hijos. Después de la escuela se fue a vivir a la "
        "capital, donde trabajó para un periódico.",
        "Si tienes tiempo, no es un mal sitio para comer. La comida es muy buena y la gente es amable. Eso sí, "
        "tuvimos que esperar una hora.",
        "Los dos hermanos no se hablan desde hace años. Nadie sabe por qué. Unos dicen que fue por dinero, y otros "
        "que fue por una mujer.",
        "Es el día más feliz de mi vida. No pensaba que esto pudiera pasar todavía. Gracias a todos los que han "
        "venido.",
    ),
    "it": (
        "Ho visto questo film tre volte e non so ancora che cosa pensarne. La storia è buona, ma gli attori non lo "
        "sono. Poteva essere uno dei migliori film dell'anno.",
        "Il vecchio abitava in una piccola casa in fondo alla strada. Ogni mattina scendeva al fiume per guardare "
        "le barche. Era stato marinaio per quasi tutta la vita.",
        "Quando la guerra finì, la città fu ricostruita. Adesso c'è una nuova scuola e ci sono molti negozi. La "
        "maggior parte della gente che vive qui lavora nella fabbrica.",
        "Lei disse che sarebbe tornata appena possibile. Lui non le credeva, ma non lo voleva dire. Rimasero lì per"
        " molto tempo a guardarsi.",
        "È nato in un paese del nord, il secondo di cinque figli. Dopo la scuola è andato a vivere a Roma, dove ha "
        "lavorato per un giornale.",
        "Se hai tempo, non è un brutto posto per mangiare. Il cibo è molto buono e la gente è gentile. Abbiamo "
        "dovuto aspettare un'ora, però.",
    ),
    "nl": (
        "Ik heb deze film nu drie keer gezien en ik weet nog steeds niet wat ik ervan moet denken. Het verhaal is "
        "goed, maar de acteurs zijn dat niet. Het had een van de beste films van het jaar kunnen zijn.",
        "De oude man woonde in een klein huis aan het einde van de straat. Elke ochtend ging hij naar de rivier om "
        "naar de boten te kijken. Hij was het grootste deel van zijn leven zeeman geweest.",
        "Toen de oorlog voorbij was, werd de stad weer opgebouwd. Er is nu een nieuwe school en er zijn veel "
        "winkels. De meeste mensen die hier wonen, werken in de fabriek.",
        "Ze zei dat ze zo snel mogelijk terug zou komen. Hij geloofde haar niet, maar hij wilde het niet zeggen. Ze"
        " stonden daar nog lang en keken elkaar aan.",
        "Hij werd geboren in een dorp in het noorden, als tweede van vijf kinderen. Na de school ging hij in "
        "Amsterdam wonen, waar hij voor een krant werkte.",
        "Als je tijd hebt, is dit geen slechte plek om te eten. Het eten is erg goed en de mensen zijn aardig. We "
        "moesten wel een uur wachten.",
    ),
    "pt": (
        "Já vi este filme três vezes e ainda não sei o que pensar dele. A história é boa, mas os atores não são. "
        "Podia ter sido um dos melhores filmes do ano.",
        "O velho morava numa casa pequena no fim da rua. Todas as manhãs descia até o rio para ver os barcos. Tinha"
        " sido marinheiro durante quase toda a vida.",
        "Quando a guerra acabou, a cidade foi reconstruída. Agora há uma escola nova e muitas lojas. A maior parte "
        "das pessoas que vivem aqui trabalha na fábrica.",
        "Ela disse que voltaria assim que pudesse. Ele não acreditou, mas não quis dizer nada. Ficaram ali muito "
        "tempo, a olhar um para o outro.",
        "Nasceu numa aldeia do norte, o segundo de cinco filhos. Depois da escola foi viver para Lisboa, onde "
        "trabalhou para um jornal.",
        "Se você tem tempo, não é um mau lugar para comer. A comida é muito boa e as pessoas são simpáticas. "
        "Tivemos de esperar uma hora, no entanto.",
    ),
    "pl": (
        "Widziałem ten film już trzy razy i nadal nie wiem, co o nim myśleć. Historia jest dobra, ale aktorzy nie "
        "są. To mógł być jeden z najlepszych filmów roku.",
        "Stary człowiek mieszkał w małym domu na końcu ulicy. Każdego ranka schodził nad rzekę, żeby popatrzeć na "
        "łodzie. Był marynarzem przez większą część życia.",
        "Kiedy wojna się skończyła, miasto zostało odbudowane. Teraz jest tu nowa szkoła i wiele sklepów. Większość"
        " ludzi, którzy tu mieszkają, pracuje w fabryce.",
        "Powiedziała, że wróci tak szybko, jak tylko będzie mogła. On jej nie wierzył, ale nie chciał tego "
        "powiedzieć. Stali tam jeszcze długo i patrzyli na siebie.",
        "Urodził się we wsi na północy jako drugie z pięciorga dzieci. Po szkole przeniósł się do Warszawy, gdzie "
        "pracował dla gazety.",
    ),
}
