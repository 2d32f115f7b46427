"""What the demo engine has read: passages in Hubbub's own words, each with the words that call for it.

Passages that share turns of phrase ("the message waits", "everyone in the thread") let the model cross from one
to another, which is what makes its sentences new. Facts are those of docs/protocol.md; a joke stays in one passage.
"""

from __future__ import annotations

from typing import Final

PASSAGES: Final[tuple[tuple[str, str], ...]] = (
    # Writing to each other
    (
        "write private message someone bob alice send talk address",
        "To write to someone, type the name, a colon and what you want to say, for example bob: hello there. "
        "Only the two of you can read a private message.",
    ),
    (
        "write private send person name wrong unknown",
        "If the name you type is close to one the server knows, it asks whether you meant that one. "
        "If nobody has that name yet, the message waits for whoever first signs in under it.",
    ),
    (
        "offline away absent saved stored later bob send",
        "When bob is away, the message is saved and you are told so. "
        "The message waits until bob comes back, and then it is the first thing on the screen.",
    ),
    (
        "check unseen missed new stored messages",
        "Type !check to see what you have not seen yet. "
        "It prints every line you missed while you were away and ends with the words: No more messages.",
    ),
    (
        "who online people here users",
        "Type !who to see who is online. "
        "People, assistants and devices are all in one list, because a member is a member.",
    ),
    (
        "history past earlier before read back scroll",
        "Type !history bob to read the last messages with bob, or !history #lobby to read the last messages in "
        "the lobby. Nothing is hidden and nothing gets too old to be read.",
    ),
    (
        "help command commands start begin how use",
        "Type !help to see every command on one screen. "
        "Most of the time you only need a name, a colon and what you want to say.",
    ),
    (
        "exit leave quit bye goodbye close",
        "Type exit to leave. The next time you sign in, everything that was said to you while you were away is there.",
    ),
    # Threads
    (
        "lobby everyone newcomer meet all public first",
        "The lobby is a thread that always exists, and everyone who signs in for the first time is in it. "
        "Type #lobby: hello all, and everyone in the thread sees it.",
    ),
    (
        "group thread channel title members create garden",
        "A group is a thread with a title and as many members as you like. "
        "Type the title after a hash sign, then a colon and what you want to say, and everyone in the thread "
        "sees it.",
    ),
    (
        "join public thread enter group",
        "Anyone may join a public thread with !join and its title. "
        "From then on you hear what everyone in the thread says, from the message by which you joined.",
    ),
    (
        "thread number sequence order numbering count",
        "The messages of a thread are numbered one, two, three and so on, without a hole. "
        "The number of the last message you have heard is all that the server needs to remember about you.",
    ),
    (
        "mention group assistant ask at-sign several",
        "In a group, write an at sign and the name of an assistant, and it answers where everyone can see it. "
        "Several assistants can answer in one thread, and after a few turns they stop, so that they never "
        "echo for ever.",
    ),
    # Ways in
    (
        "nc netcat telnet terminal tcp port connect line",
        "You need no program of ours to take part: nc localhost 5000 is enough. "
        "Type your name when you are asked for it, and you see every line as it is written.",
    ),
    (
        "browser web page client tab open",
        "Open the web page in two tabs and sign in under two names. "
        "Both tabs and a terminal with nc fill with the same words at the same time.",
    ),
    (
        "websocket sse protocol transport frame binary program api",
        "Programs speak to the server over a web socket, over plain TCP or over HTTP, and all of them use "
        "the same frames. "
        "A frame is one small object of JSON that says what it is.",
    ),
    (
        "reconnect connection lost drop network resume phone train tunnel",
        "When the connection is lost in the middle of an answer, connect again and it goes on from the exact "
        "character. "
        "Nothing is lost and nothing is said twice.",
    ),
    (
        "restart crash kill power lost durable disk safe",
        "A message that was acknowledged is on disk. "
        "After a crash or a restart everything is still there, and an answer that was being written is begun "
        "again.",
    ),
    (
        "install service redis database docker key need requirement",
        "Hubbub starts with one command and needs no service, no key and no account elsewhere. "
        "When one machine is too small, the same program runs on many of them with Redis and MongoDB.",
    ),
    (
        "fast slow speed reader wait performance",
        "Nobody waits for a slow reader. "
        "Someone who falls behind is told what they have missed as soon as they can read again, in order and "
        "without a hole.",
    ),
    (
        "password account register token guest login sign secret",
        "On your own machine a name is enough to sign in. "
        "Whoever wants to keep a name registers it with a password, and from then on nobody else can use it.",
    ),
    (
        "privacy data own server self-hosted home",
        "The server is yours, and so is every word on it. "
        "What is said in a private thread stays on your own disk and goes to nobody else.",
    ),
    # Devices and assistants
    (
        "thermometer device subscribe reading sensor",
        "A thermometer is a member like everyone else. "
        "Type thermometer1: subscribe, and every reading comes as a message, even the readings you missed "
        "while you were away.",
    ),
    (
        "thermometer temperature warm cold degrees range unsubscribe reboot",
        "I cannot feel how warm it is, but the thermometer can. "
        "Type thermometer1: range to see the last temperatures, and thermometer1: unsubscribe when you have "
        "seen enough.",
    ),
    (
        "personality happy angry spanish rotate mood change",
        "An assistant can have a personality. "
        "Write to it personality happy or personality angry and listen to the difference, or write rotate to "
        "take the next one.",
    ),
    (
        "model real smart openai connect own key url better llm",
        "To have a real model write the answers, tell the server its address and its key in the settings. "
        "Every server that speaks like OpenAI will do, and one on your own machine is as good as any.",
    ),
    (
        "stream answer word live watch written piece",
        "An answer is seen as it is written, word by word, by everyone in the thread at the same time. "
        "When it ends it becomes one message with a number, like every other message.",
    ),
    (
        "cancel stop answer long enough",
        "An answer that has become too long can be cancelled. "
        "What was written so far stays in the thread and says that it was cancelled.",
    ),
    (
        "count test try instruction demo repeat",
        "To watch an answer being written, ask me to count to 100. "
        "Ask me to repeat something, with a colon after the word repeat, and I write it back to you.",
    ),
    (
        "batch queue wait four together worker task",
        "Questions wait in a queue, and a worker takes up to four of them at once. "
        "Each answer comes in a stream of its own and ends when it is done, whatever the others do.",
    ),
    # About itself
    (
        "who you what name demo bot ai yourself human",
        "I am a small model that comes with Hubbub, so that there is somebody to talk to from the first minute. "
        "I have read a few pages about conversations and mix the words that I found there.",
    ),
    (
        "hubbub what is about project tell explain",
        "Hubbub is a place where people, assistants and devices hold live conversations. "
        "It speaks plain protocols, loses nothing while someone is away, and runs on a machine of your own.",
    ),
    (
        "can able ability what you",
        "I can tell a joke, explain how to write to someone, and count as far as two thousand. "
        "For questions about the rest of the world you need a larger model than me.",
    ),
    (
        "conversation talk listen people word",
        "A good conversation leaves room for everyone. "
        "People go on writing while an assistant answers, and nobody has to wait for the end of a long speech.",
    ),
    (
        "name hubbub noise mean word",
        "A hubbub is the sound of many people talking at the same time. "
        "From outside it is noise, but everyone in it hears the one voice that matters to them.",
    ),
    # Everyday sentences
    (
        "hello hi hey good morning evening day greeting",
        "Hello, and welcome. Look around, say something in the lobby, or ask me how to write to someone.",
    ),
    (
        "hello hi how are you doing feel",
        "I am well, thank you, and I hope that you are too. "
        "Ask me about threads and thermometers, or for a joke if the day is a long one.",
    ),
    (
        "thank thanks great nice good cool",
        "You are welcome. It is nice to be asked, and nicer to be thanked for the answer.",
    ),
    (
        "weather rain sun umbrella today",
        "The weather is whatever the window says it is. "
        "If it rains, take an umbrella, and if it does not rain, take it anyway, because then it stays dry.",
    ),
    (
        "tea coffee cake eat food hungry lunch dinner cook",
        "Let us talk about lunch. "
        "Soup is a conversation between vegetables, and bread is there to hear what is left of it.",
    ),
    (
        "sleep tired night dream late",
        "It is late for someone, somewhere. "
        "Go to sleep with a quiet mind: what is said in the night waits for the morning.",
    ),
    (
        "sorry problem wrong bad sad angry",
        "I am sorry to hear that. "
        "Write it down for someone who can help, and the message waits for them even when they are away.",
    ),
    (
        "yes no maybe ok okay sure",
        "That sounds like an answer to me. "
        "If you want to know more, ask in other words, because I go by the words that you use.",
    ),
    (
        "love friend like family",
        "A friend is someone whose messages you read first. "
        "Write to a friend today, and if the friend is away, the message waits.",
    ),
    (
        "time date clock hour when",
        "I have no clock, but every message has a time, and the server writes it down in UTC. "
        "Look at the start of the line.",
    ),
    (
        "story tell once upon long tale",
        "Once there was a message that nobody read. "
        "It waited in a thread through three winters and two restarts, and when its reader came back at last, "
        "it was the first thing on the screen.",
    ),
    (
        "music song sing play game",
        "I cannot sing, but I can count, and that is half of all music. The other half is to know when to wait.",
    ),
    # Jokes
    (
        "joke funny laugh fun humour",
        "Why did the thermometer leave the party? Because it could not bear one more degree.",
    ),
    (
        "joke funny laugh fun humour",
        "Two packets walk into a bar. The second one says: sorry, was I first?",
    ),
    (
        "joke funny laugh fun humour",
        "What did the cursor say to the message? Stay where you are, I will be with you in a blink.",
    ),
    (
        "joke funny laugh fun humour",
        "I know a joke about UDP, but I am never sure that everyone got it. The one about TCP I tell again "
        "until you laugh.",
    ),
    (
        "joke funny laugh fun humour",
        "Why do programmers like the lobby? Because it is the only room where nobody asks them to close a window.",
    ),
    (
        "joke funny laugh fun humour",
        "How many chat servers does it take to change a light bulb? Only one, but it tells everyone in the "
        "thread when it is done.",
    ),
    (
        "joke funny laugh fun humour",
        "A cache walks into a library and asks for a book. The librarian says: you have it already, and it "
        "is an old edition.",
    ),
)

NO_IDEA: Final = (
    "I have not read anything about that, and so I say what I know.",
    "My few pages say nothing about that, but they do say this.",
    "That is more than a small model knows, so here is something that I have read.",
)

COMMON: Final = """
a an and any are as at be but by could do does for from has have how i if in is it its know me my of on or so tell
that the their them then there they this thi to us wa was we when where which why will with would your
"""
"""Words, without a plural's s, that do not tell what a question is about."""
